"""Milliseconds a stage."""

from __future__ import annotations

import time


class Clock:
    """Time of each stage of a batch of queries; every query has an equal share of it."""

    def __init__(self, queries: int) -> None:
        self._queries = queries
        self._began = self._last = time.perf_counter()
        self._seconds: dict[str, float] = {}

    def stage(self, name: str) -> None:
        """The time since the stage before was `name`'s."""
        now = time.perf_counter()
        self.add(name, now - self._last)
        self._last = now

    def add(self, name: str, seconds: float) -> None:
        """Count seconds that were measured elsewhere."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def milliseconds(self) -> dict[str, float]:
        """A query's share of each stage, and of the whole."""
        whole = {**self._seconds, "total": self._last - self._began}
        return {name: 1000 * seconds / self._queries for name, seconds in whole.items()}
