"""Reads a dataset's photos side by side, in order, some chunks ahead of whoever takes them."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt

from hficma.data.dataset import Dataset, open_dataset
from hficma.errors import InputError
from hficma.images import Pixels, preprocess

from .photo_views import random_view, square

Positions = npt.NDArray[np.int64]

_CHUNK = 32


_CHUNKS_AHEAD = 16


_PARALLEL_FROM = 2_000


def read_photos(
    dataset: Dataset, positions: Positions
) -> Iterator[tuple[Pixels | None, str | None]]:
    """Each photo's centre crop (1, 224, 224, 3), or why it cannot be read, in order."""
    return read_all(dataset, positions, "views")


def read_all(
    dataset: Dataset, positions: Positions, how: str, views: int = 0, scale: float = 1.0
) -> Iterator[tuple[Pixels | None, str | None]]:
    """Each photo's pixels (views, side, side, 3), or why there are none, in order."""
    chunks = deque(positions[start : start + _CHUNK] for start in range(0, len(positions), _CHUNK))
    pool = _workers(dataset, len(positions))
    source = dataset if isinstance(pool, ThreadPoolExecutor) else dataset.name
    jobs: deque[Future[list[tuple[Pixels | None, str | None]]]] = deque()
    try:
        while chunks or jobs:
            while chunks and len(jobs) < _CHUNKS_AHEAD:  # bounds the memory
                chunk = chunks.popleft()
                jobs.append(pool.submit(_read_chunk, source, chunk, how, views, scale))
            yield from jobs.popleft().result()
    finally:
        # An interrupt must not wait for chunks that nobody will read.
        pool.shutdown(cancel_futures=True)


def _workers(dataset: Dataset, photos: int) -> Executor:
    """Threads; for a large sample, whose photos are drawn in Python, processes."""
    count = min(8, os.cpu_count() or 1)
    if dataset.name.startswith("sample") and photos >= _PARALLEL_FROM and count > 1:
        return ProcessPoolExecutor(
            count, mp_context=get_context("spawn"), initializer=_leave_interrupts_to_the_parent
        )
    return ThreadPoolExecutor(count)


def _leave_interrupts_to_the_parent() -> None:
    """Ctrl-C reaches every process of a terminal; only the parent knows what to tidy."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read_chunk(
    source: Dataset | str, positions: Positions, how: str, views: int, scale: float
) -> list[tuple[Pixels | None, str | None]]:
    dataset = open_dataset(source) if isinstance(source, str) else source
    found: list[tuple[Pixels | None, str | None]] = []
    for position in positions.tolist():
        try:
            photo = dataset.photo(position)
        except InputError as error:
            found.append((None, str(error)))
            continue
        if how == "square":
            pixels = square(photo)[None]
        else:
            generator = np.random.default_rng(position)
            pixels = np.stack(
                [preprocess(photo), *(random_view(photo, scale, generator) for _ in range(views))]
            )
        found.append((pixels, None))
    return found
