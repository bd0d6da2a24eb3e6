"""Sixteen threads search an index while a writer changes it: every answer is of one whole state.

A reader that opens the index finds the state that stood when it began to open it, or a later one,
and keeps that state however often the index is changed under it: the items that answer are
exactly that state's, with the scores that they have in an index made at once.
"""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from hficma.engine import Engine, Filter, IndexWriter, build_index
from tests.engine.datasets import NoiseDataset
from tests.engine.factories import tiny_bundle

THREADS = 16
ITEMS = 60
"""Items that are added and removed."""
TOLERANCE = 1e-5
"""Of scores: what an item is encoded together with moves its rounding."""


def run(seconds: float, seed: int, bundle: Path | None = None) -> dict[str, int]:
    """Search and change for `seconds`; return counts, of which `wrong` must be zero."""
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        return _Race(base, bundle or tiny_bundle(base / "bundles"), seed).run(seconds)


class _Race:
    def __init__(self, base: Path, bundle: Path, seed: int) -> None:
        self._photo = NoiseDataset(1).photo(0)
        whole = build_index(bundle, NoiseDataset(ITEMS), base / "whole", threads=1)
        self._scores, _ = self._asked(whole)
        self._index = build_index(bundle, NoiseDataset(20), base / "index", shard_items=16)
        self._states = [frozenset(f"r{i}" for i in range(20))]
        self._committed = 0
        self._seed = seed
        self._counts = Counter(openings=0, searches=0, changes=0, wrong=0)
        self._told = threading.Lock()
        self._stop = threading.Event()
        self._failures: list[str] = []

    def run(self, seconds: float) -> dict[str, int]:
        """Start the readers, change until the time is over, and join them."""
        readers = [threading.Thread(target=self._read, args=(n,)) for n in range(THREADS)]
        for reader in readers:
            reader.start()
        ends = time.monotonic() + seconds
        chance = random.Random(self._seed)
        try:
            with IndexWriter(self._index) as writer:
                while time.monotonic() < ends and not self._failures:
                    self._change(writer, chance)
        finally:
            self._stop.set()
            for reader in readers:
                reader.join()
        assert not self._failures, self._failures[0]
        return dict(self._counts)

    def _change(self, writer: IndexWriter, chance: random.Random) -> None:
        held = self._states[-1]
        kind = chance.choice(["add", "add", "remove", "compact"])
        if kind == "compact":
            writer.compact()
        elif kind == "add":
            first = chance.randrange(ITEMS - 5)
            names = frozenset(f"r{i}" for i in range(first, first + 5))
            self._states.append(held | names)  # before: a reader may see it at once
            writer.add(NoiseDataset(5, first=first), threads=1)
        elif len(held) > 10:
            names = frozenset(chance.sample(sorted(held), 5))
            self._states.append(held - names)
            writer.remove(names)
        self._committed = len(self._states) - 1
        self._counts["changes"] += 1

    def _read(self, number: int) -> None:
        chance = random.Random(self._seed + number + 1)
        try:
            while not self._stop.is_set():
                self._open_and_search(chance)
        except Exception as error:
            self._fail(f"{type(error).__name__}: {error}")

    def _open_and_search(self, chance: random.Random) -> None:
        least = self._committed
        with Engine.open(self._index, threads=1) as engine:
            state: frozenset[str] | None = None
            for _ in range(chance.randint(1, 4)):
                answer = engine.search(image=self._photo, k=1000, exact=chance.random() < 0.5)
                found = {hit.id: hit.score for hit in answer.hits}
                with self._told:
                    self._counts["searches"] += 1
                if state is None and frozenset(found) not in self._states[least:]:
                    self._fail(f"no state since {least} has the items {sorted(found)}")
                if state is not None and frozenset(found) != state:
                    self._fail("an engine that stayed open answers from another state")
                state = frozenset(found)
                far = {n: s for n, s in found.items() if abs(s - self._scores[n]) > TOLERANCE}
                if far:
                    self._fail(f"scores differ: {far}")
                salty = engine.search(image=self._photo, k=1000, filter=Filter(having=("salt",)))
                if not {hit.id for hit in salty.hits} <= state:
                    self._fail("a filter lets items in that are not in the index")
        with self._told:
            self._counts["openings"] += 1

    def _asked(self, index: Path) -> tuple[dict[str, float], int]:
        with Engine.open(index, threads=1) as engine:
            answer = engine.search(image=self._photo, k=1000)
        return {hit.id: hit.score for hit in answer.hits}, answer.certified

    def _fail(self, told: str) -> None:
        with self._told:
            self._counts["wrong"] += 1
            self._failures.append(told)
        self._stop.set()
