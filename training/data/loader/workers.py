"""How many processes read photos, and how many batches wait in memory that they share."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from ...parallel.distributed import local_processes

logger = logging.getLogger("hficma")

MOST_WORKERS = 16
"""Processes that are started of themselves, at most: as many decode some 10,000 photos a second."""
AHEAD = 2
"""Batches that each worker makes ahead."""
SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps memory that processes share; in a container it often has 64 MB."""


def default_workers() -> int:
    """Return how many processes read photos for each that trains, where nobody says.

    All cores of a machine, less one for each training process: on a GPU nothing else needs them,
    and on a CPU reading takes a small part of the work.
    """
    return min(MOST_WORKERS, max(0, usable_cores() // local_processes() - 1))


def usable_cores() -> int:
    """Return the cores that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def batches_ahead(workers: int, batch_bytes: int) -> tuple[int, int]:
    """Return how many workers to start, and how many batches each may make ahead.

    Batches come through shared memory; where they do not fit, the process that reads one ends
    (SIGBUS), so that fewer are made ahead, and by fewer workers.

    Args:
        workers: as many as are asked for, for each process that trains.
        batch_bytes: of the pixels of such a process's share of a batch.
    """
    if not SHARED_MEMORY.is_dir():  # another system, or none that can be asked
        return workers, AHEAD
    # The processes of a machine look at the same time, before any of them has taken its part.
    free = shutil.disk_usage(SHARED_MEMORY).free // local_processes()
    # Of each worker one more is being written, and one read.
    for ahead in range(AHEAD, 0, -1):
        if workers * (ahead + 2) * batch_bytes <= free:
            return workers, ahead
    fewer = free // (3 * batch_bytes)
    logger.warning(
        "%s: has %d MB free, too little for %d processes that read photos; %d read them "
        "(a container takes more: --shm-size)",
        SHARED_MEMORY, free // 1_000_000, workers, fewer,
    )  # fmt: skip
    return fewer, 1
