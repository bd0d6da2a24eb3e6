"""What one core does for a photo, and how many photos workers read together, without a model.

    parts      a photo read, decoded, cropped into a batch, by one core
    alone      what workers read, beside as many times what one core decodes

Other work on the machine slows both down: each round measures one right after the other, and a
share is of the same round.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import Any

import numpy as np
import torch

from hficma.data.directory import DatasetDirectory
from hficma.images import ImageInput, decode_pixels
from hficma.training.data.loader.batches import (
    PHOTO,
    PhotoBatches,
    Request,
    Shown,
    pair_draws,
)
from hficma.training.data.loader.loader import Loader
from hficma.training.data.loader.workers import AHEAD, usable_cores
from hficma.training.data.photo_views import square_of_pixels, write_random_crop
from hficma.types import Positions

BATCHES = 12
"""Batches that each worker reads in a measurement."""
SKIPPED = 6
"""Batches, or steps, that are not counted, at least; see `skipped_batches`."""
BATCH = 64
"""Photos of a batch."""
STAGE_PHOTOS = 256
"""Photos that one core reads, decodes and crops to time the parts."""
SECONDS = 1.0
"""Seconds for which processes do nothing but decode."""
SHOWN = Shown(image_input=ImageInput())
"""The published crop."""

Record = dict[str, Any]


def skipped_batches(workers: int) -> int:
    """Return how many first batches are not counted: as many as workers make ahead, or are making.

    They were made while nothing took them: counted, they would hide that workers are too slow.
    """
    return max(SKIPPED, workers * (AHEAD + 1))


def photo_record(photos: DatasetDirectory, rounds: int) -> Record:
    """Time what one core does for a photo, and how many photos workers read together.

    Args:
        photos: stored ones.
        rounds: in each, everything is measured once.
    """
    rows = np.arange(len(photos))
    numbers = range(1, usable_cores() + 1)
    parts: list[dict[str, float]] = []
    read: dict[int, list[tuple[float, float]]] = {number: [] for number in numbers}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    for turn in range(rounds):
        for number in numbers:
            parts.append(_parts(photos, np.random.default_rng(turn).permutation(rows)))
            read[number].append((_decoded_at_once(photos, number), _read(photos, number, turn)))
    torch.set_num_threads(threads)
    alone = []
    for number in numbers:
        cores = [1000 / one["decode"] for one in parts[number - 1 :: len(numbers)]]
        both = zip(cores, read[number], strict=True)
        shares = [rate / (number * core) for core, (_, rate) in both]
        alone.append(
            {
                "workers": number,
                "photos": median(rate for _, rate in read[number]),
                "share": median(shares),
                "share_at_once": median(rate / decoded for decoded, rate in read[number]),
            }
        )
    milliseconds = {name: median(one[name] for one in parts) for name in parts[0]}
    return {
        "photos": len(photos),
        "photo_kb": float(np.mean([len(photos.jpeg(row)) for row in rows.tolist()])) / 1000,
        "milliseconds": milliseconds,
        "decoded": 1000 / milliseconds["decode"],
        "alone": alone,
    }


def _parts(photos: DatasetDirectory, rows: Positions) -> dict[str, float]:
    """Return the mean milliseconds of each part of a photo's way into a batch."""
    image_input = SHOWN.image_input
    size = image_input.size
    # Memory that is there already, and shared, as a worker's.
    batch = torch.zeros((BATCH, size, size, 3), dtype=torch.uint8).share_memory_().numpy()
    sums = dict.fromkeys(("read", "decode", "crop"), 0.0)
    rows = rows[:STAGE_PHOTOS]
    for place, row in enumerate(rows.tolist()):
        times = [time.perf_counter()]
        content = photos.jpeg(row)
        times.append(time.perf_counter())
        photo = decode_pixels(content, name="photo", enough=image_input.least_side)
        times.append(time.perf_counter())
        square = square_of_pixels(photo, image_input)
        write_random_crop(batch[place % BATCH], square, pair_draws(0, 1, row, PHOTO))
        times.append(time.perf_counter())
        for name, start, end in zip(sums, times, times[1:], strict=False):
            sums[name] += end - start
    return {name: 1000 * seconds / len(rows) for name, seconds in sums.items()}


def _read(photos: DatasetDirectory, workers: int, turn: int) -> float:
    """Return the photos a second that workers read together."""
    rows = np.arange(len(photos))
    loader = Loader(
        lambda buffers: PhotoBatches(photos, rows, rows, SHOWN, seed=0, buffers=buffers),
        workers=workers,
        device=torch.device("cpu"),
        batch_bytes=BATCH * SHOWN.image_input.size**2 * 3,
    )
    skipped = skipped_batches(workers)
    count = skipped + BATCHES * workers
    generator = np.random.default_rng(turn)
    requests = [Request(1, generator.choice(rows, BATCH), True, False) for _ in range(count)]
    start = 0.0
    for number, _ in enumerate(loader.epoch(requests), start=1):
        if number == skipped:
            start = time.perf_counter()
    return BATCH * (count - skipped) / (time.perf_counter() - start)


def _decoded_at_once(photos: DatasetDirectory, processes: int) -> float:
    """Return the photos a second that processes decode together, which do nothing else."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        rates = pool.map(_decode, [photos] * processes)
        return sum(rates)


def _decode(photos: DatasetDirectory) -> float:
    """Return the photos a second that this process decodes."""
    contents = [photos.jpeg(row) for row in range(min(STAGE_PHOTOS, len(photos)))]
    start, count = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < SECONDS:
        content = contents[count % len(contents)]
        decode_pixels(content, name="photo", enough=SHOWN.image_input.least_side)
        count += 1
    return count / seconds
