"""Reads a dataset's photos in parallel and gives them in order, a bounded number ahead."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Literal, TypeAlias

import numpy as np

from hficma.data.dataset import Dataset, open_dataset
from hficma.data.photos import photo_side, reduced_photo
from hficma.errors import InputError
from hficma.images import ImageInput
from hficma.images.crops import crops as photo_crops
from hficma.types import Pixels, Positions

from ..config.options import Options
from .photo_views import random_view, shown_side, square

Reading: TypeAlias = tuple[Pixels | None, str | None]
"""A photo's pixels (V, H, W, 3), or why there are none, in one line."""
Form: TypeAlias = Literal["square", "views"]
"""`square`: what random crops are cut from; `views`: those of `hficma.images.crops`, the centre
first, then random views."""

_CHUNK = 32
"""Photos that one worker reads in one go."""
_CHUNKS_AHEAD = 16
"""Chunks in work or waiting to be taken: this bounds the memory."""
_PARALLEL_FROM = 2_000
"""Photos of a sample from which starting processes is worth its seconds."""


def read_photos(
    dataset: Dataset, positions: Positions, image_input: ImageInput, count: int = 1
) -> Iterator[Reading]:
    """Yield each photo's crops (count, s, s, 3), or why it cannot be read, in order."""
    return read_all(dataset, positions, image_input, "views", crops=count)


def read_all(
    dataset: Dataset,
    positions: Positions,
    image_input: ImageInput,
    form: Form,
    *,
    crops: int = 1,
    views: int = 0,
    scale: float = 1.0,
) -> Iterator[Reading]:
    """Yield each photo in a form, or why it cannot be read, in order.

    Args:
        dataset: where the photos are.
        positions: which.
        image_input: of the encoder that sees them.
        form: what is made of a photo.
        crops: crops of a photo, see `hficma.images.crops`.
        views: random views beside them, the same ones each time.
        scale: least share of a photo's area in a random view.

    Yields:
        pixels (1, short_side, short_side, 3) of a square, (crops + views, s, s, 3) of views.
    """
    chunks = deque(positions[start : start + _CHUNK] for start in range(0, len(positions), _CHUNK))
    pool = _workers(dataset, len(positions))
    # Another process opens the dataset itself, by its name.
    source = dataset if isinstance(pool, ThreadPoolExecutor) else dataset.name
    jobs: deque[Future[list[Reading]]] = deque()
    try:
        while chunks or jobs:
            while chunks and len(jobs) < _CHUNKS_AHEAD:
                chunk = chunks.popleft()
                arguments = (source, chunk, image_input, form, crops, views, scale)
                with interrupts_held():
                    jobs.append(pool.submit(_read_chunk, *arguments))
            yield from jobs.popleft().result()
    finally:
        # An interrupt must not wait for chunks that nobody will read.
        pool.shutdown(cancel_futures=True)


def note_enlarged_photos(dataset: Dataset, options: Options, note: Callable[[str], None]) -> None:
    """Say where a dataset keeps smaller photos than training shows: nothing else would.

    Args:
        dataset: that the photos are in.
        options: of the run, the image encoder resolved.
        note: hears of it.
    """
    stored = photo_side(dataset)
    shown = shown_side(
        options.model.image_input,
        crops=options.model.image.crops,
        views=options.photos.views,
        scale=options.photos.scale,
    )
    if stored is not None and stored < shown:
        note(
            f"{dataset.name}: keeps photos of {stored} pixels, and training shows them enlarged to "
            f"{shown}; an import with photo_side={shown} keeps as many"
        )


def _workers(dataset: Dataset, photos: int) -> Executor:
    """Return threads, since decoders work without Python's lock; for a large sample, processes.

    A sample's photos are drawn in Python, which threads would do one after the other.
    """
    count = min(8, os.cpu_count() or 1)
    if dataset.name.startswith("sample") and photos >= _PARALLEL_FROM and count > 1:
        return ProcessPoolExecutor(
            count, mp_context=get_context("spawn"), initializer=leave_interrupts_to_the_parent
        )
    return ThreadPoolExecutor(count)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back for the block, which starts processes, if the system can.

    They inherit that, and it never reaches them: before their initializer has run, each would end
    with a traceback.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_interrupts_to_the_parent() -> None:
    """Ignore Ctrl-C: it reaches every process of a terminal, and the parent knows what to tidy."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read_chunk(
    source: Dataset | str,
    positions: Positions,
    image_input: ImageInput,
    form: Form,
    crops: int,
    views: int,
    scale: float,
) -> list[Reading]:
    """Return the readings of some photos; see `read_all`."""
    dataset = open_dataset(source) if isinstance(source, str) else source
    readings: list[Reading] = []
    for position in positions.tolist():
        try:
            photo = reduced_photo(dataset, position, image_input.least_side)
        except InputError as error:
            readings.append((None, str(error)))
            continue
        if form == "square":
            pixels = square(photo, image_input)[None]
        else:
            # Seeded by the position: a cache that is filled again holds the same views.
            generator = np.random.default_rng(position)
            shown = [*photo_crops(photo, image_input, crops)]
            shown += [random_view(photo, image_input, scale, generator) for _ in range(views)]
            pixels = np.stack(shown)
        readings.append((pixels, None))
    return readings
