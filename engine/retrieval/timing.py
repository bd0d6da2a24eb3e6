"""Where the time of a search goes: a timer that is handed from stage to stage."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator


class StageTimer:
    """Measures the stages of a batch of queries, each query having an equal share of all of them.

    Whoever does a part of the work is handed the timer and adds to it, from any thread.

    Args:
        queries: how many share the time.
    """

    def __init__(self, queries: int = 1) -> None:
        self._queries = queries
        self._start = self._last = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def end_stage(self, name: str) -> None:
        """Count the time since the previous stage ended as time of the stage `name`."""
        now = time.perf_counter()
        self.add(name, now - self._last)
        self._last = now

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time that a block takes as `name`, within a stage that goes on.

        Parts that run side by side in several threads add up: their sum may exceed their stage.
        """
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Count seconds for `name`."""
        with self._lock:
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def seconds(self, name: str) -> float:
        """Return the seconds counted for `name`, of all queries together."""
        return self._seconds.get(name, 0.0)

    def milliseconds(self) -> dict[str, float]:
        """Return a query's share of each stage and part, and of the `total`."""
        totals = {**self._seconds, "total": self._last - self._start}
        return {name: 1000 * seconds / self._queries for name, seconds in totals.items()}
