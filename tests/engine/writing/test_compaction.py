"""Many small additions leave few shards, and cost little more than the items they bring."""

from __future__ import annotations

import math
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hficma.engine import IndexWriter, build_index, index_info, verify_index
from hficma.engine.writing.compaction import runs_to_merge, tail_to_merge
from tests.engine.datasets import NoiseDataset
from tests.engine.writing.test_build import ids
from tests.engine.writing.test_changes import scores, shards

DESCRIPTORS = 64
SHARDS = 60


@given(st.lists(st.integers(1, 40), min_size=1, max_size=300), st.integers(40, 4000))
def test_shards_stay_few_and_items_are_seldom_written_again(added: list[int], limit: int) -> None:
    """260 additions of one recipe made 260 shards, which no command could open any more."""
    sizes: list[int] = []
    rewritten: list[int] = []  # of each shard, how often its most travelled item was copied
    for size in added:
        sizes.append(size)
        rewritten.append(0)
        count = tail_to_merge(reversed(sizes), limit)
        if count > 1:
            sizes[-count:] = [sum(sizes[-count:])]
            rewritten[-count:] = [max(rewritten[-count:]) + 1]
        assert sizes[-1] <= limit
        total = sum(sizes)
        assert len(sizes) <= 1 + math.log2(total) + 2 * total / limit
        assert max(rewritten) <= 1 + math.log(total, 1.5)


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(50, 200))
def test_compacting_puts_every_shard_into_one_run(sizes: list[int], limit: int) -> None:
    """A shard in no run would be lost, one in two would stand in the index twice."""
    runs = runs_to_merge(sizes, limit)
    assert [place for run in runs for place in run] == list(range(len(sizes)))
    totals = [sum(sizes[run.start : run.stop]) for run in runs]
    assert all(total <= limit for total in totals)
    assert all(
        totals[number] + sizes[runs[number + 1].start] > limit for number in range(len(runs) - 1)
    )


def test_additions_of_one_item_are_merged(hf_icma_bundle: Path, tmp_path: Path) -> None:
    """The index is that of all items at once: the same scores, ids, removals, in few shards."""
    path = build_index(hf_icma_bundle, NoiseDataset(8), tmp_path / "i", shard_items=8)
    with IndexWriter(path) as writer:
        for number in range(8, 22):
            assert writer.add(NoiseDataset(1, first=number), threads=1) == 1
            assert len(shards(path)) <= 2 + math.log2(number) + 2 * number / 8
            if number % 4 == 0:
                writer.remove([f"r{number}"])
    remaining = [f"r{i}" for i in range(22) if i not in (8, 12, 16, 20)]
    assert [name for name in ids(path) if name in remaining] == remaining
    whole = build_index(hf_icma_bundle, NoiseDataset(22), tmp_path / "whole")
    expected = scores(whole)
    assert scores(path) == pytest.approx({name: expected[name] for name in remaining}, rel=1e-6)
    assert not verify_index(path).problems
    info = index_info(path)
    assert info["items"] == len(remaining)
    assert info["removed"] < 4, "what was removed before a merge takes space still"
    assert {folder.name for folder in (path / "shards").iterdir()} == set(shards(path))


def test_a_removed_shard_is_no_hindrance(hf_icma_bundle: Path, tmp_path: Path) -> None:
    """Merging leaves nothing of a shard whose items are all gone."""
    path = build_index(hf_icma_bundle, NoiseDataset(4), tmp_path / "i")
    with IndexWriter(path) as writer:
        writer.remove(["r0", "r1", "r2", "r3"])
        writer.add(NoiseDataset(2, first=4), threads=1)
        assert index_info(path)["removed"] == 0
        assert ids(path) == ["r4", "r5"]
        writer.remove(["r4", "r5"])
        writer.add(NoiseDataset(1), threads=1)
    assert ids(path) == ["r0"]


def test_an_addition_of_nothing_new_changes_nothing(hf_icma_bundle: Path, tmp_path: Path) -> None:
    """It left an empty shard that no manifest named until another writer came."""
    path = build_index(hf_icma_bundle, NoiseDataset(4), tmp_path / "i")
    before = (path / "manifest.json").read_bytes()
    with IndexWriter(path) as writer:
        assert writer.add(NoiseDataset(3), threads=1) == 0
        assert {folder.name for folder in (path / "shards").iterdir()} == {"000000"}
    assert (path / "manifest.json").read_bytes() == before


def test_more_shards_than_descriptors(adamine_bundle: Path, tmp_path: Path) -> None:
    """An index of an older version may have any number of them: compacting is the cure."""
    path = build_index(adamine_bundle, NoiseDataset(SHARDS), tmp_path / "i", shard_items=1)
    resized = (
        "import dataclasses, sys; from pathlib import Path;"
        "import hficma.engine.writing.index_writer as w;"
        "path = Path(sys.argv[1]); writer = w.IndexWriter(path);"
        "writer._commit(dataclasses.replace(writer._facts, shard_items=400));"
        "writer.remove(['r7']); writer.compact(); writer.close()"
    )
    subprocess.run(
        [sys.executable, "-c", resized, str(path)],
        check=True,
        cwd=Path(__file__).parents[3],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS)),
    )
    assert len(shards(path)) == 1
    assert ids(path) == [f"r{i}" for i in range(SHARDS) if i != 7]
