"""A dataset's items, decoded, encoded and brought to an index's level, each step on a thread.

    decode                    encode, raise to the level       write
    photos, recipes   ──2──▶  vectors, encodings      ──2──▶   a shard
    a pool of threads         one thread                       the caller's thread

At most two results wait between two steps, which bounds memory and keeps the slower step busy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Full, Queue
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from hficma.data.photos import reduced_photo
from hficma.errors import InputError
from hficma.images.crops import crops_into
from hficma.recipe import Recipe
from hficma.text.vocabulary import RecipeIds
from hficma.types import Floats, Mask, Pixels, Positions

from ..encoder import encode, photo_batch, photo_memory, raise_level
from ..files.photo_file import PhotoRow
from ..index.item_encoding import BatchEncodings, Level, Role
from .photo_settings import PhotoSettings

if TYPE_CHECKING:
    from hficma.data.dataset import Dataset

    from ..bundle.bundle import Bundle

RECIPES_PER_ENCODING = 256
"""Recipes encoded together: enough to share sentences. Photos are as many as a run of their branch
takes, which bounds memory."""
ITEMS_PER_WRITE = 64
"""Items raised to the index's level and written together: tables of more would fill the memory."""
QUEUE_LENGTH = 2
"""Results that may wait between two steps."""

BadItemCallback = Callable[[str], None]
"""Called with one line about an item that is left out."""
ProgressCallback = Callable[[int, int], None]
"""Called with items done and items in all."""
Result = TypeVar("Result")


class EncodedBatch(NamedTuple):
    """Items ready to be written."""

    positions: Positions
    """(N,) in the dataset."""
    recipes: list[Recipe]
    """Their records."""
    vectors: Floats
    """(N, D_g) global vectors."""
    encodings: BatchEncodings | None
    """At the index's level; None without a local part."""
    photos: list[PhotoRow | None]
    """What is known of each item's photo."""

    def finite(self) -> Mask:
        """Return which items have no NaN or infinity in what is stored of them, (N,)."""
        arrays = [
            self.vectors,
            *(self.encodings.arrays.values() if self.encodings is not None else ()),
        ]
        finite = np.ones(len(self.vectors), dtype=np.bool_)
        for array in arrays:
            finite &= np.isfinite(array).reshape(len(array), -1).all(axis=1)
        return finite

    def selected(self, places: Positions) -> EncodedBatch:
        """Return some of the items.

        Args:
            places: (K,) where they stand in the batch.
        """
        encodings = self.encodings
        if encodings is not None:
            arrays = {name: array[places] for name, array in encodings.arrays.items()}
            encodings = BatchEncodings(encodings.lengths[places], arrays)
        recipes = [self.recipes[place] for place in places]
        photos = [self.photos[place] for place in places]
        return EncodedBatch(
            self.positions[places], recipes, self.vectors[places], encodings, photos
        )


class _DecodedChunk(NamedTuple):
    """Items as the encoder reads them."""

    positions: list[int]
    recipes: list[Recipe]
    contents: list[RecipeIds | Pixels]
    photos: list[PhotoRow | None]


def encoded_batches(
    bundle: Bundle,
    role: Role,
    level: Level | None,
    dataset: Dataset,
    positions: range,
    *,
    photos: PhotoSettings,
    views: int,
    threads: int,
    strict: bool,
    on_bad: BadItemCallback,
) -> Iterator[EncodedBatch]:
    """Yield a dataset's items encoded, in order, with decoding and encoding running ahead.

    Recipes without a photo are no photos: they are passed over.

    Args:
        bundle: encodes the items.
        role: `image` for photos, `recipe` for recipes.
        level: to bring them to; None for a model without a local part.
        dataset: holds the items.
        positions: of the items in the dataset.
        photos: what is noted of the items' photos.
        views: crops of a photo.
        threads: that decode.
        strict: raise on an item that cannot be read instead of leaving it out.
        on_bad: called with a line about each item that is left out.

    Raises:
        InputError: an item cannot be read, if `strict`.
    """
    decoded = run_ahead(
        _decoded(
            bundle,
            role,
            dataset,
            positions,
            photos=photos,
            views=views,
            threads=threads,
            strict=strict,
            on_bad=on_bad,
        )
    )
    return run_ahead(_encoded(bundle, role, level, decoded))


def run_ahead(source: Iterator[Result]) -> Iterator[Result]:
    """Yield from a source that runs on a thread of its own, a few results ahead of the reader.

    Args:
        source: is closed, and its thread has ended, when the reader stops.
    """
    # One result in a list; an empty list is the end.
    queue: Queue[tuple[list[Result], BaseException | None]] = Queue(QUEUE_LENGTH)
    stopped = threading.Event()

    def put(results: list[Result], error: BaseException | None = None) -> None:
        """Hand over to the reader, unless it has stopped."""
        # Not for ever: a reader that stopped reads nothing more, and waits for this thread.
        while not stopped.is_set():
            try:
                return queue.put((results, error), timeout=0.1)
            except Full:
                continue

    def run() -> None:
        """Run the source to its end, or until the reader stops."""
        try:
            for result in source:
                put([result])
                if stopped.is_set():
                    return
            put([])
        # Not hidden: the reading side raises it again.
        except BaseException as error:
            put([], error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            results, error = queue.get()
            if error is not None:
                raise error
            if not results:
                return
            yield from results
    finally:
        stopped.set()
        thread.join()


def _decoded(
    bundle: Bundle,
    role: Role,
    dataset: Dataset,
    positions: range,
    *,
    photos: PhotoSettings,
    views: int,
    threads: int,
    strict: bool,
    on_bad: BadItemCallback,
) -> Iterator[_DecodedChunk]:
    """Yield items as the encoder reads them, as many at a time as are encoded together."""

    def read(
        position: int, memory: Pixels | None = None
    ) -> tuple[Recipe, RecipeIds | Pixels, PhotoRow | None] | str | None:
        """Return an item, what is wrong with it, or None for a recipe without a photo."""
        try:
            recipe = dataset.recipe(position)
            if role == "recipe":
                return recipe, bundle.tokenizer(recipe), photos.row(dataset, position, recipe)
            if recipe.image is None:
                return None
            photo = reduced_photo(dataset, position, bundle.image_input.least_side)
            assert memory is not None
            pixels = crops_into(photo, bundle.image_input, memory)
            return recipe, pixels, photos.row(dataset, position, recipe, photo)
        except InputError as error:
            if strict:
                raise
            return str(error)

    with ThreadPoolExecutor(threads) as pool:
        size = RECIPES_PER_ENCODING if role == "recipe" else photo_batch(bundle)
        for start in range(0, len(positions), size):
            part = positions[start : start + size]
            # Photos decode outside the interpreter's lock, each to where the encoder reads it;
            # tokenising only wakes threads.
            if role == "image":
                items = pool.map(read, part, photo_memory(bundle, len(part), views))
            else:
                items = pool.map(read, part) if photos.keep else map(read, part)
            chunk = _DecodedChunk([], [], [], [])
            for position, item in zip(part, items, strict=True):
                if isinstance(item, str):
                    on_bad(item)
                elif item is not None:
                    chunk.positions.append(position)
                    chunk.recipes.append(item[0])
                    chunk.contents.append(item[1])
                    chunk.photos.append(item[2])
            if chunk.positions:
                yield chunk


def _encoded(
    bundle: Bundle, role: Role, level: Level | None, decoded: Iterator[_DecodedChunk]
) -> Iterator[EncodedBatch]:
    """Yield decoded items encoded and at the index's level, `ITEMS_PER_WRITE` at a time."""
    for chunk in decoded:
        encoded = encode(bundle, chunk.contents)
        for start in range(0, len(chunk.positions), ITEMS_PER_WRITE):
            part = slice(start, start + ITEMS_PER_WRITE)
            encodings = None
            if encoded.encodings is not None and level is not None:
                tokens = _without_common_padding(encoded.encodings, part)
                encodings = raise_level(bundle, role, tokens, level)
            yield EncodedBatch(
                np.array(chunk.positions[part], dtype=np.int64),
                chunk.recipes[part],
                encoded.vectors[part],
                encodings,
                chunk.photos[part],
            )


def _without_common_padding(encodings: BatchEncodings, part: slice) -> BatchEncodings:
    """Return some items at level `tokens`, padded only to the longest of them."""
    lengths = encodings.lengths[part]
    tokens = encodings.arrays["tokens"][part, : int(lengths.max())]
    return BatchEncodings(lengths, {"tokens": np.ascontiguousarray(tokens)})
