"""Memory of this process and those that it started, watched and timed while a block runs."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

INTERVAL = 0.5
"""Seconds between two looks."""
_PARTS = {"Pss_Anon": "memory_mb", "Pss_Shmem": "memory_mb", "Pss_File": "mapped_mb"}


class PeakMemory:
    """The most that was seen.

    Attributes:
        memory_mb: what only processes hold, and what they share with each other.
        mapped_mb: pages of files, which the system drops where memory is short: libraries, photos.
        processes: at the same time, at most.
        seconds: that the block took.
    """

    def __init__(self) -> None:
        self.memory_mb = self.mapped_mb = self.seconds = 0.0
        self.processes = 0

    def look(self) -> None:
        """Look once. A page that several processes share counts once, a part for each."""
        sums = {"memory_mb": 0.0, "mapped_mb": 0.0}
        members = family(os.getpid())
        for process in members:
            # A process may end between two lines of this.
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                    name, _, amount = line.partition(":")
                    if name in _PARTS:
                        sums[_PARTS[name]] += int(amount.split()[0]) / 1000
        self.memory_mb = max(self.memory_mb, sums["memory_mb"])
        self.mapped_mb = max(self.mapped_mb, sums["mapped_mb"])
        self.processes = max(self.processes, len(members))

    def stage(self, name: str, pairs: int) -> dict[str, Any]:
        """Return the block as a row of figures, once it has ended; `pairs` a second."""
        return {
            "name": name,
            "pairs": pairs / self.seconds,
            "seconds": self.seconds,
            "memory_mb": self.memory_mb,
            "mapped_mb": self.mapped_mb,
            "processes": self.processes,
        }


@contextlib.contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Watch the block; memory on Linux only, elsewhere none is seen."""
    peak, ended = PeakMemory(), threading.Event()

    def watch() -> None:
        while not ended.wait(INTERVAL):
            peak.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    start = time.perf_counter()
    try:
        yield peak
    finally:
        peak.seconds = time.perf_counter() - start
        peak.look()
        ended.set()
        thread.join()


def family(process: int) -> list[int]:
    """Return a process and all that descend from it."""
    members = [process]
    for member in members:
        for task in Path(f"/proc/{member}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                members += map(int, task.read_text().split())
    return members
