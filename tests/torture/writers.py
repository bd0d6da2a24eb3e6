"""Kills writers of an index at random moments: build, stream, add with its merges, remove, compact.

After each kill the index must hold one of the states that the killed sequence of changes goes
through, whole; after the next writer that ends by itself, nothing of the killed ones lies about,
and what links point to was never touched.

Each writer is forked from a process that has imported everything but started no thread, so that a
kill costs milliseconds: `run` starts that process.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import faiss  # noqa: F401  imported here, not in every fork
import filelock  # noqa: F401
import onnxruntime  # noqa: F401

from hficma.data.stream import RecipeStream
from hficma.engine import IndexWriter, build_index, verify_index
from hficma.engine.index.index import Index
from tests.engine.datasets import NoiseDataset
from tests.engine.factories import tiny_bundle
from tests.torture.forks import forked

Change = tuple[str, tuple[int, ...]]
"""`add` or `remove` with numbers of items, or `compact`."""

BUILT = 30
"""Items of an index that is built."""
MOST = 60
"""Items of the index that is changed, about."""


def run(seconds: float, seed: int, bundle: Path | None = None) -> dict[str, int]:
    """Kill for `seconds`; return counts: writers killed and ended, `lost`, `left behind`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture.writers", str(seconds), str(seed), str(bundle or "")],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return counts


def main() -> None:
    """Kill for as many seconds as the first argument says; the others are a seed and a bundle."""
    chance = random.Random(int(sys.argv[2]))
    counts = Counter(dict.fromkeys(("killed", "ended", "lost", "left behind"), 0))
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        bundle = base / "bundles" / "adamine-0"
        if sys.argv[3]:
            bundle = Path(sys.argv[3])
        else:
            assert forked(lambda: tiny_bundle(base / "bundles", "adamine")) == 0
        trials = [
            _Builds(base, bundle, chance, counts, streamed=False),
            _Builds(base, bundle, chance, counts, streamed=True),
            _Changes(base, bundle, chance, counts),
        ]
        ends = time.monotonic() + float(sys.argv[1])
        while time.monotonic() < ends:
            for trial in trials:
                trial.once()
    print(json.dumps(counts))


class _Builds:
    """Building one index, killed several times, then let go on."""

    def __init__(
        self,
        base: Path,
        bundle: Path,
        chance: random.Random,
        counts: Counter[str],
        *,
        streamed: bool,
    ) -> None:
        self._bundle = bundle
        self._folder = base / ("stream" if streamed else "build")
        self._streamed = streamed
        self._chance, self._counts = chance, counts
        self._seconds = _timed(self._build)
        shutil.rmtree(self._folder)

    def once(self) -> None:
        """Kill up to four times, then build to the end."""
        for _ in range(self._chance.randint(1, 4)):
            delay = self._chance.uniform(0, self._seconds)
            self._counts["killed" if forked(self._build, delay) < 0 else "ended"] += 1
            if (self._folder / "index").exists():
                break  # it ended, or was killed behind its last step
        else:
            assert forked(self._build) == 0
            self._counts["ended"] += 1
        index = self._folder / "index"
        _lose(
            self._counts, _ids(index) != [f"r{i}" for i in range(BUILT)], f"{index}: {_ids(index)}"
        )
        forked(lambda: IndexWriter(index).close())
        _leave(self._counts, {path.name for path in self._folder.iterdir()} - {"index"})
        _leave(self._counts, _leftovers(index))
        shutil.rmtree(self._folder)

    def _build(self) -> None:
        data = NoiseDataset(BUILT)
        recipes = (data.recipe(i) for i in range(BUILT))
        build_index(
            self._bundle,
            RecipeStream(recipes) if self._streamed else data,
            self._folder / "index",
            shard_items=8,
            threads=1,
            runtime="onnxruntime",
        )


class _Changes:
    """Random changes of one index, which grows and shrinks."""

    def __init__(
        self, base: Path, bundle: Path, chance: random.Random, counts: Counter[str]
    ) -> None:
        self._index = base / "index"
        self._bundle = bundle
        self._victim = base / "victim"
        (self._victim / "mine").mkdir(parents=True)
        self._chance, self._counts = chance, counts
        self._held = list(range(20))
        self._next = 20
        self._seconds = _timed(
            lambda: build_index(
                self._bundle,
                NoiseDataset(20),
                self._index,
                shard_items=16,
                threads=1,
                runtime="onnxruntime",
            )
        )

    def once(self) -> None:
        """Make up to four changes, mostly killed before their end."""
        if self._chance.random() < 0.2:
            self._plant()
        changes, states = self._planned()
        killed = self._chance.random() < 0.8
        delay = self._chance.uniform(0, self._seconds) if killed else None
        ended = forked(lambda: self._change(changes), delay)
        assert ended in (0, -signal.SIGKILL), f"exit {ended} of {changes}"
        self._counts["ended" if ended == 0 else "killed"] += 1
        found = [int(name[1:]) for name in _ids(self._index)]
        possible = states if ended else states[-1:]
        _lose(self._counts, found not in possible, f"{changes}: {found}, not one of {possible}")
        self._held = found
        if ended == 0:
            _leave(self._counts, _leftovers(self._index))
            _lose(self._counts, not (self._victim / "mine").is_dir(), "a link was followed")
            if self._chance.random() < 0.1:
                assert forked(self._verify) == 0, "what verify_index says is printed above"

    def _planned(self) -> tuple[list[Change], list[list[int]]]:
        """Changes, and the numbers that the index holds before, between and after them."""
        states, changes = [self._held], []
        for _ in range(self._chance.randint(1, 4)):
            held = states[-1]
            kind = self._chance.choice(["add", "add", "add", "remove", "compact"])
            numbers: tuple[int, ...] = ()
            if kind == "add" and len(held) < MOST:
                numbers = tuple(range(self._next, self._next + self._chance.randint(1, 6)))
                self._next = numbers[-1] + 1
                states.append([*held, *numbers])
            elif kind != "compact" and held:
                kind = "remove"
                numbers = tuple(self._chance.sample(held, self._chance.randint(1, len(held))))
                states.append([number for number in held if number not in numbers])
            changes.append((kind if numbers else "compact", numbers))
        return changes, states

    def _change(self, changes: list[Change]) -> None:
        with IndexWriter(self._index) as writer:
            for kind, numbers in changes:
                if kind == "add":
                    data = NoiseDataset(len(numbers), first=numbers[0])
                    writer.add(data, threads=1, runtime="onnxruntime")
                elif kind == "remove":
                    writer.remove([f"r{number}" for number in numbers])
                else:
                    writer.compact()

    def _plant(self) -> None:
        """Leave what a killed writer, or an enemy, may have left."""
        shards = self._index / "shards"
        for number in self._chance.sample(range(1000), 3):
            link = shards / self._chance.choice([f"{number:06d}", f".{number:06d}.part"])
            if not link.exists():
                link.symlink_to(self._victim)
        (self._index / f".manifest.json.{self._chance.randint(2, 99)}.part").touch()

    def _verify(self) -> None:
        problems = verify_index(self._index, spot_checks=3).problems
        assert not problems, problems


def _ids(index: Path) -> list[str]:
    """Ids of the items that answer, in the order of their numbers, each of which comes once."""
    opened = Index.open(index)
    try:
        numbers = [int(number) for shard in opened.shards for number in shard.numbers]
        assert numbers == sorted(set(numbers))
        return [
            name
            for shard, kept in zip(opened.shards, opened.filter_masks(None), strict=True)
            for place, name in sorted(shard.records.ids(range(shard.count)).items())
            if kept is None or kept[place]
        ]
    finally:
        opened.close()


def _leftovers(index: Path) -> set[str]:
    """What lies in an index that it does not name."""
    beside = {path.name for path in index.iterdir()} - {"manifest.json", "shards", ".lock"}
    opened = Index.open(index)
    named = set(opened.facts.shards)
    opened.close()
    return beside | {path.name for path in (index / "shards").iterdir()} - named


def _lose(counts: Counter[str], lost: bool, told: str) -> None:
    counts["lost"] += lost
    if lost:
        print(f"lost: {told}", flush=True)


def _leave(counts: Counter[str], left: set[str]) -> None:
    counts["left behind"] += len(left)
    if left:
        print(f"left behind: {sorted(left)}", flush=True)


def _timed(command: Callable[[], object]) -> float:
    began = time.monotonic()
    assert forked(command) == 0
    return time.monotonic() - began


if __name__ == "__main__":
    main()
