"""Kills writers of an index at random moments: `python -m tests.engine.kill_writers INDEX N`.

Each writer is forked from this process, which has imported everything but started no thread, so
that a kill costs milliseconds. After each the index must open and hold what it must.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import faiss  # noqa: F401  imported here, not in every fork
import onnxruntime  # noqa: F401

from hficma.engine import IndexWriter
from hficma.engine.index import Index
from tests.engine.datasets import NoiseDataset

WITHIN = 1
"""Writers are killed within the time that this many whole changes take."""


def write(path: Path, turn: int, steps: int) -> None:
    """Add, remove and compact."""
    with IndexWriter(path) as writer:
        for step in range(steps):
            first = 1000 * turn + 3 * step + 100
            writer.add(NoiseDataset(3, first=first), threads=1)
            writer.remove([f"r{first}"])
            if step % 2:
                writer.compact()


def check(path: Path) -> None:
    """The index opens, ids are unique, numbers rise, and the first twenty items stand."""
    index = Index.open(path)
    ids = [
        name
        for shard, kept in zip(index.shards, index.allowed(None), strict=True)
        for place, name in shard.records.ids(range(shard.count)).items()
        if kept is None or kept[place]
    ]
    numbers = [int(number) for shard in index.shards for number in shard.numbers]
    assert len(set(ids)) == len(ids) == index.live
    assert numbers == sorted(set(numbers))
    assert {f"r{i}" for i in range(20)} <= set(ids)


def main() -> None:
    """Kill N writers."""
    path, kills = Path(sys.argv[1]), int(sys.argv[2])
    chance = random.Random(0)
    began = time.perf_counter()
    os.waitpid(_writer(path, turn=0, steps=2), 0)
    change = (time.perf_counter() - began) / 2
    for turn in range(1, kills + 1):
        child = _writer(path, turn, steps=300)
        time.sleep(chance.uniform(0.0, WITHIN * change))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        check(path)
    print("killed", kills)


def _writer(path: Path, turn: int, steps: int) -> int:
    child = os.fork()
    if child == 0:
        write(path, turn, steps)
        os._exit(0)
    return child


if __name__ == "__main__":
    main()
