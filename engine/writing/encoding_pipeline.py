"""A dataset's items, decoded, encoded and brought to an index's level, each step on a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Full, Queue
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from hficma.errors import InputError
from hficma.images import Pixels, preprocess
from hficma.recipe import Recipe
from hficma.text.vocabulary import RecipeIds

from ..encoder import encode, raise_level
from ..index.item_encoding import BatchEncodings, Level, Role

if TYPE_CHECKING:
    from hficma.data.dataset import Dataset

    from ..bundle.bundle import Bundle

CHUNK: dict[Role, int] = {"recipe": 256, "image": 16}
"""Items encoded together: enough recipes to share sentences, few photos to bound memory."""
WRITTEN_TOGETHER = 64
DEPTH = 2
"""Chunks that wait between two steps."""

OnBad = Callable[[str], None]
Progress = Callable[[int, int], None]
"""Called with items done and items in all."""
Item = TypeVar("Item")


class EncodedBatch(NamedTuple):
    """Items ready to be written."""

    positions: npt.NDArray[np.int64]
    """(N,) in the dataset."""
    recipes: list[Recipe]
    """Their records."""
    vectors: npt.NDArray[np.float32]
    """(N, D_g)."""
    encodings: BatchEncodings | None
    """At the index's level; None without a local part."""

    def finite(self) -> npt.NDArray[np.bool_]:
        """Which items have no NaN or infinity in what is stored of them, (N,)."""
        arrays = [
            self.vectors,
            *(self.encodings.arrays.values() if self.encodings is not None else ()),
        ]
        kept = np.ones(len(self.vectors), dtype=np.bool_)
        for array in arrays:
            kept &= np.isfinite(array).reshape(len(array), -1).all(axis=1)
        return kept

    def selected(self, places: npt.NDArray[np.int64]) -> EncodedBatch:
        """The items at some places."""
        encodings = self.encodings
        if encodings is not None:
            arrays = {name: array[places] for name, array in encodings.arrays.items()}
            encodings = BatchEncodings(encodings.lengths[places], arrays)
        recipes = [self.recipes[place] for place in places]
        return EncodedBatch(self.positions[places], recipes, self.vectors[places], encodings)


class _Decoded(NamedTuple):
    positions: list[int]
    recipes: list[Recipe]
    contents: list[RecipeIds | Pixels]


def encoded_batches(
    bundle: Bundle,
    role: Role,
    level: Level | None,
    dataset: Dataset,
    wanted: range,
    *,
    threads: int,
    strict: bool,
    on_bad: OnBad,
) -> Iterator[EncodedBatch]:
    """Encode the dataset's items at some positions, in order, with decoding running ahead.

    Recipes without a photo are no photos: they are passed over. What cannot be read is told to
    `on_bad` and left out, or raised with `strict`.
    """
    decoded = overlapped(
        _decoded(bundle, role, dataset, wanted, threads=threads, strict=strict, on_bad=on_bad)
    )
    return overlapped(_encoded(bundle, role, level, decoded))


def overlapped(source: Iterator[Item]) -> Iterator[Item]:
    """Yield from `source`, which runs ahead in a thread of its own by up to `DEPTH` items."""
    queue: Queue[tuple[list[Item], BaseException | None]] = Queue(DEPTH)
    stopped = threading.Event()

    def put(items: list[Item], error: BaseException | None = None) -> None:
        while not stopped.is_set():
            try:
                return queue.put((items, error), timeout=0.1)
            except Full:
                continue

    def run() -> None:
        try:
            for item in source:
                put([item])
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
            items, error = queue.get()
            if error is not None:
                raise error
            if not items:
                return
            yield from items
    finally:
        stopped.set()
        thread.join()


def _decoded(
    bundle: Bundle,
    role: Role,
    dataset: Dataset,
    wanted: range,
    *,
    threads: int,
    strict: bool,
    on_bad: OnBad,
) -> Iterator[_Decoded]:
    def read(position: int) -> tuple[Recipe, RecipeIds | Pixels] | str | None:
        try:
            recipe = dataset.recipe(position)
            if role == "recipe":
                return recipe, bundle.tokenizer(recipe)
            if recipe.image is None:
                return None
            return recipe, preprocess(dataset.photo(position))
        except InputError as error:
            if strict:
                raise
            return str(error)

    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(wanted), CHUNK[role]):
            chunk = wanted[start : start + CHUNK[role]]
            # Photos decode outside the interpreter's lock; tokenising only wakes threads.
            made = pool.map(read, chunk) if role == "image" else map(read, chunk)
            chosen = _Decoded([], [], [])
            for position, outcome in zip(chunk, made, strict=True):
                if isinstance(outcome, str):
                    on_bad(outcome)
                elif outcome is not None:
                    chosen.positions.append(position)
                    chosen.recipes.append(outcome[0])
                    chosen.contents.append(outcome[1])
            if chosen.positions:
                yield chosen


def _encoded(
    bundle: Bundle, role: Role, level: Level | None, decoded: Iterator[_Decoded]
) -> Iterator[EncodedBatch]:
    for chunk in decoded:
        encoded = encode(bundle, chunk.contents)
        for start in range(0, len(chunk.positions), WRITTEN_TOGETHER):
            part = slice(start, start + WRITTEN_TOGETHER)
            encodings = None
            if encoded.encodings is not None and level is not None:
                encodings = raise_level(bundle, role, selected(encoded.encodings, part), level)
            yield EncodedBatch(
                np.array(chunk.positions[part], dtype=np.int64),
                chunk.recipes[part],
                encoded.vectors[part],
                encodings,
            )


def selected(encodings: BatchEncodings, part: slice) -> BatchEncodings:
    """Some items of sides at level `tokens`, padded only to the longest of them."""
    lengths = encodings.lengths[part]
    tokens = encodings.arrays["tokens"][part, : int(lengths.max())]
    return BatchEncodings(lengths, {"tokens": np.ascontiguousarray(tokens)})
