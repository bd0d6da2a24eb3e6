"""Damages an index's files where it hurts: a search gives the same answer, or a line that says so.

Bits are flipped in exponents, headers and pages, blocks are zeroed or swapped, files cut or
lengthened: any file of an index of any kind, one at a time. Searched are a damaged copy and its
original, plainly, to the proof, with a filter, in a batch; then it is compacted and read again, for
damage must not be copied under new checksums.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hficma.engine import Engine, Filter, IndexWriter, build_index
from hficma.errors import HficmaError
from tests.engine.datasets import NoiseDataset
from tests.engine.factories import tiny_bundle

OLDER = Path(__file__).parents[1] / "fixtures" / "older"
TOGETHER = 60
"""Attacks of one child process: a crash of it is seen, and costs no more than these."""

Damage = Callable[[bytearray, random.Random], None]


class Target(NamedTuple):
    """An index, and the bundle that searches it."""

    index: Path
    bundle: Path


def run(seconds: float, seed: int) -> dict[str, int]:
    """Damage for `seconds`; return counts of outcomes; `wrong` and `crashed` must be zero."""
    counts: Counter[str] = Counter(refused=0, same=0, wrong=0, crashed=0)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        os.environ["HFICMA_HOME"] = str(base / "home")
        targets = [list(map(str, target)) for target in make_targets(base)]
        (base / "targets.json").write_text(json.dumps(targets))
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            counts.update(_in_child(base, chance.getrandbits(32)))
    return dict(counts)


def make_targets(base: Path) -> list[Target]:
    """Indexes of every level, precision and kind of prefilter, and one of an older version."""
    bundle = tiny_bundle(base / "bundles")
    kinds: tuple[dict[str, Any], ...] = (
        {"keep": "tokens", "prefilter": "Flat"},
        {"keep": "projections", "prefilter": "SQ8", "side_precision": "int8"},
        {"keep": "tables", "prefilter": "HNSW", "side_precision": "fp16"},
        {"keep": "tokens", "prefilter": "IVF1,SQ8", "side_precision": "fp16"},
        {"prefilter": "SQ8", "side_precision": "int4", "exact_tokens": True},
    )
    targets = [Target(OLDER / "index", OLDER / "bundle")]
    for number, options in enumerate(kinds):
        path = build_index(
            bundle, NoiseDataset(120), base / f"index{number}",
            shard_items=60, threads=1, runtime="onnxruntime", **options,
        )  # fmt: skip
        with IndexWriter(path) as writer:
            writer.remove(["r4", "r70"])
        targets.append(Target(path, bundle))
    return targets


def attack(
    targets: list[Target], copy: Path, chance: random.Random, wanted: dict[Path, object]
) -> tuple[str, str]:
    """Damage a copy of one of the targets once.

    Args:
        targets: one of which is copied.
        copy: where to; removed first.
        chance: decides which, and what happens to it.
        wanted: answers of the originals by index, found when they are missing.

    Returns:
        `refused`, `same` or `wrong`, and what was done.
    """
    target = chance.choice(targets)
    if target.index not in wanted:
        wanted[target.index] = answers(target.index, target.bundle)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(target.index, copy)
    file = chance.choice(sorted(path for path in copy.rglob("*") if path.is_file()))
    content = bytearray(file.read_bytes())
    damage = chance.choice(DAMAGES)
    damage(content, chance)
    file.write_bytes(content)
    told = f"{target.index.name}/{file.relative_to(copy)}: {damage.__name__}"
    try:
        outcome = "same" if answers(copy, target.bundle) == wanted[target.index] else "wrong"
    except HficmaError as error:
        outcome = "wrong" if "\n" in str(error) else "refused"
    if outcome == "wrong" or chance.random() < 0.8:
        return outcome, told
    # What a search did not read may be damaged still: a change must not make it good.
    try:
        with IndexWriter(copy) as writer:
            writer.compact()
        kept = all_answers(copy, target.bundle) == all_answers(target.index, target.bundle)
    except HficmaError:
        kept = True
    return (outcome if kept else "wrong"), f"{told}, compacted"


def answers(index: Path, bundle: Path) -> object:
    """What searching gives, in every way that reads other bytes."""
    photos = [NoiseDataset(8).photo(i) for i in range(3)]
    with Engine.open(index, bundle=bundle, runtime="onnxruntime", threads=1) as engine:
        given = [
            engine.search(image=photos[0], k=5, candidates=7),
            engine.search(image=photos[1], k=5, exact=True),
            engine.search(image=photos[2], k=3, filter=Filter(without=("salt",))),
            *engine.search_many(photos, k=4, candidates=6),
        ]
    assert all(answer.verified for answer in given)
    return [
        (
            answer.certified,
            [(hit.id, hit.score, hit.title, hit.instructions) for hit in answer.hits],
        )
        for answer in given
    ]


def all_answers(index: Path, bundle: Path) -> object:
    """Every item's score for a photo, in order."""
    with Engine.open(index, bundle=bundle, runtime="onnxruntime", threads=1) as engine:
        answer = engine.search(image=NoiseDataset(1).photo(0), k=1000)
    return [(hit.id, hit.score, hit.title) for hit in answer.hits]


def bit(content: bytearray, chance: random.Random) -> None:
    """Flip one bit anywhere."""
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def exponent(content: bytearray, chance: random.Random) -> None:
    """Flip the highest exponent bit of a float32: a number becomes 10^38, or next to none."""
    if len(content) >= 4:
        content[4 * chance.randrange(len(content) // 4) + 3] ^= 0x40


def low_byte(content: bytearray, chance: random.Random) -> None:
    """Flip a low bit of an int64: a count or a number becomes its neighbour's."""
    if len(content) >= 8:
        content[8 * chance.randrange(len(content) // 8)] ^= 1 << chance.randrange(4)


def header(content: bytearray, chance: random.Random) -> None:
    """Change a byte of the first hundred, where formats say what follows."""
    if content:
        content[chance.randrange(min(100, len(content)))] = chance.randrange(256)


def page(content: bytearray, chance: random.Random) -> None:
    """Zero a page, as a torn write leaves it."""
    start = 4096 * chance.randrange(len(content) // 4096 + 1)
    content[start : start + 4096] = bytes(len(content[start : start + 4096]))


def swapped(content: bytearray, chance: random.Random) -> None:
    """Swap two runs of 64 bytes, rows perhaps, which any sum over them would not see."""
    runs = len(content) // 64
    if runs >= 2:
        a, b = (64 * number for number in chance.sample(range(runs), 2))
        content[a : a + 64], content[b : b + 64] = content[b : b + 64], content[a : a + 64]


def cut(content: bytearray, chance: random.Random) -> None:
    """Shorten the file."""
    del content[chance.randrange(len(content) + 1) :]


def longer(content: bytearray, chance: random.Random) -> None:
    """Add bytes at its end."""
    content += chance.randbytes(chance.randrange(1, 5000))


DAMAGES: tuple[Damage, ...] = (bit, bit, exponent, low_byte, header, page, swapped, cut, longer)


def _in_child(base: Path, seed: int) -> Counter[str]:
    """Make some attacks in a process of its own, so that a crash is counted and ends no other."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.torture.flips", str(base), str(seed)],
        cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    lines = child.stdout.splitlines()
    found = Counter(line.split(":")[0] for line in lines)
    for line in lines:
        if line.startswith(("wrong", "crashed")):
            print(f"{line[:300]} (seed {seed})", flush=True)
    if child.returncode:
        print(f"crashed: exit status {child.returncode} (seed {seed})", flush=True)
        found["crashed"] += 1
    return found


def main() -> None:
    """Make some attacks on the targets in a folder; print each outcome."""
    base, chance = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
    targets = [Target(*map(Path, pair)) for pair in json.loads((base / "targets.json").read_text())]
    wanted: dict[Path, object] = {}
    for _ in range(TOGETHER):
        try:
            outcome, told = attack(targets, base / "damaged", chance, wanted)
        except Exception as error:
            outcome, told = "crashed", f"{type(error).__name__}: {error}"
        print(f"{outcome}: {told}".splitlines()[0], flush=True)


if __name__ == "__main__":
    main()
