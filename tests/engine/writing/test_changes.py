"""Adding, removing and compacting: readers see before or after, kills lose nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hficma.engine import Engine, Filter, IndexWriter, build_index, index_info, verify_index
from hficma.errors import ArtifactError, InputError
from tests.engine.datasets import NoiseDataset
from tests.torture import changes, writers


@pytest.fixture
def index(hf_icma_bundle: Path, tmp_path: Path) -> Path:
    return build_index(hf_icma_bundle, NoiseDataset(20), tmp_path / "index", shard_items=8)


def scores(path: Path, **options: object) -> dict[str, float]:
    """Every item's score for one photo."""
    with Engine.open(path, threads=1) as engine:
        answer = engine.search(image=NoiseDataset(1).photo(0), k=1000, **options)
    return {hit.id: hit.score for hit in answer.hits}


def shards(path: Path) -> list[str]:
    return [shard["name"] for shard in index_info(path)["shards"]]


def test_added_items_answer_and_the_old_are_untouched(index: Path) -> None:
    """An index that is added to is the index of both datasets."""
    before = scores(index)
    with IndexWriter(index) as writer:
        assert writer.add(NoiseDataset(13, first=20), threads=1) == 13
        assert writer.add(NoiseDataset(5, first=30), threads=1) == 2  # three ids were there
    after = scores(index)
    assert set(after) == {f"r{i}" for i in range(35)}
    assert {name: after[name] for name in before} == before
    assert not verify_index(index).problems


def test_removed_items_answer_no_more_and_may_come_back(index: Path) -> None:
    """Also where a filter asks for them by id."""
    with IndexWriter(index) as writer:
        assert writer.remove(["r3", "r4", "r3"]) == 2
        with pytest.raises(InputError, match="r4: no item"):
            writer.remove(["r5", "r4"])
    assert set(scores(index)) == {f"r{i}" for i in range(20)} - {"r3", "r4"}
    assert not scores(index, filter=Filter(ids=("r3",)))
    with IndexWriter(index) as writer:
        assert writer.add(NoiseDataset(5), threads=1) == 2
    assert set(scores(index)) == {f"r{i}" for i in range(20)}


@pytest.mark.parametrize("prefilter", ["Flat", "SQ8"])
def test_compacting_changes_no_answer(hf_icma_bundle: Path, tmp_path: Path, prefilter: str) -> None:
    """It only frees space: fewer shards, no removed items, the same scores."""
    path = build_index(
        hf_icma_bundle, NoiseDataset(20), tmp_path / "i", shard_items=8, prefilter=prefilter,
        keep="tables", side_precision="int8",
    )  # fmt: skip
    with IndexWriter(path) as writer:
        for first in (20, 22, 24):
            writer.add(NoiseDataset(2, first=first), threads=1)
        writer.remove([f"r{i}" for i in range(5, 15)])
        before, info = scores(path), index_info(path)
        writer.compact()
    assert scores(path) == before
    after = index_info(path)
    assert after["removed"] == 0
    assert after["items"] == len(before)
    assert after["bytes"] < info["bytes"]
    assert after["side_errors"].keys() == info["side_errors"].keys()
    assert len(shards(path)) == 3  # of six: no two neighbours fit into one of eight items
    assert {folder.name for folder in (path / "shards").iterdir()} == set(shards(path))
    assert not verify_index(path).problems


def test_compacting_leaves_full_shards_alone(index: Path) -> None:
    """A large index is not written again for a few new items."""
    with IndexWriter(index) as writer:
        writer.add(NoiseDataset(2, first=50), threads=1)
        writer.compact()
    assert shards(index)[:2] == ["000000", "000001"]
    assert len(shards(index)) == 3


def test_everything_may_be_removed(index: Path) -> None:
    """An empty index answers with nothing, and may be filled again."""
    with IndexWriter(index) as writer:
        writer.remove([f"r{i}" for i in range(20)])
        assert scores(index) == {}
        writer.compact()
        assert shards(index) == []
        assert scores(index, exact=True) == {}
        writer.add(NoiseDataset(2), threads=1)
    assert set(scores(index)) == {"r0", "r1"}


def test_a_reader_keeps_its_state(index: Path) -> None:
    """While it searches, a writer compacts away every file that it reads."""
    photo = NoiseDataset(1).photo(0)
    with Engine.open(index, threads=1) as engine:
        with IndexWriter(index) as writer:
            writer.remove(["r1"])
            writer.compact()
        answer = engine.search(image=photo, k=99, exact=True, filter=Filter(having=("salt",)))
        plain = engine.search(image=photo, k=99)
    assert {hit.id for hit in plain.hits} == {f"r{i}" for i in range(20)}
    assert answer.certified == len(answer.hits)


def test_a_failed_addition_leaves_no_trace(index: Path) -> None:
    """The second shard of it holds a bad recipe; the same writer goes on."""
    with IndexWriter(index) as writer:
        with pytest.raises(InputError, match="line 12"):
            writer.add(NoiseDataset(16, first=20, bad=(12,)), strict=True, threads=1)
        assert set(scores(index)) == {f"r{i}" for i in range(20)}
        assert {folder.name for folder in (index / "shards").iterdir()} == set(shards(index))
        assert writer.add(NoiseDataset(10, first=20), threads=1) == 10
    assert set(scores(index)) == {f"r{i}" for i in range(30)}


def test_a_disk_that_fails_behind_the_rename_costs_no_shard(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new manifest stands already: sweeping by the old one would remove what it names."""

    def failing(path: Path) -> None:
        if path == index:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with IndexWriter(index) as writer, monkeypatch.context() as patched:
        patched.setattr("hficma.artifacts.manifest.sync", failing)
        with pytest.raises(ArtifactError, match="cannot be written"):
            writer.add(NoiseDataset(3, first=20), threads=1)
    assert set(scores(index)) == {f"r{i}" for i in range(23)}
    with IndexWriter(index) as writer:
        writer.compact()
    assert set(scores(index)) == {f"r{i}" for i in range(23)}


def test_a_second_writer_is_told(index: Path) -> None:
    """Two writers would lose each other's shards."""
    with IndexWriter(index), pytest.raises(ArtifactError, match="another process is writing"):
        IndexWriter(index)
    with IndexWriter(index):
        pass


def test_kills_at_random_moments_lose_nothing(adamine_bundle: Path) -> None:
    """`kill -9` of building, adding, merging, removing and compacting leaves one of the states
    that the changes go through, and nothing that the next writer does not sweep."""
    counts = writers.run(seconds=5, seed=0, bundle=adamine_bundle)
    assert counts["killed"] > 3
    assert counts["ended"] > 3
    assert (counts["lost"], counts["left behind"]) == (0, 0)


def test_searches_beside_changes_see_one_state_each(hf_icma_bundle: Path) -> None:
    """A reader must never answer from half of a change, nor from files that are gone."""
    counts = changes.run(seconds=4, seed=0, bundle=hf_icma_bundle)
    assert counts["searches"] > 16
    assert counts["changes"] > 2
    assert counts["wrong"] == 0
