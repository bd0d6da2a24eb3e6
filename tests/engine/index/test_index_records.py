"""An index opened for its records alone says what the whole one says, and needs no more files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hficma.artifacts.manifest import read_manifest
from hficma.engine import IndexWriter, build_index
from hficma.engine.index.index import Index, IndexRecords
from hficma.engine.index.index_facts import KIND, IndexFacts, write_index_manifest
from hficma.errors import ArtifactError
from tests.engine.datasets import NoiseDataset

DATA = NoiseDataset(12)


def test_records_need_nothing_that_searching_reads(hf_icma_bundle: Path, tmp_path: Path) -> None:
    """The head of a cluster would hold what its machines hold, of every shard."""
    path = build_index(
        hf_icma_bundle, DATA, tmp_path / "index", shard_items=5, runtime="onnxruntime", threads=1
    )
    with IndexWriter(path) as writer:
        writer.remove(["r3", "r11"])
    with Index.open(path) as whole:
        expected = [whole.find(f"r{number}") for number in range(len(DATA))]
        recipes = [whole.recipe(position) for position in range(whole.count)]
        counts = whole.count, whole.item_count, whole.shard_offsets.tolist()
    for file in path.glob("shards/*/*"):
        if file.name in ("global", "tokens", "lengths", "prefilter.faiss"):
            file.unlink()
    with IndexRecords.open(path) as records:
        assert [records.find(f"r{number}") for number in range(len(DATA))] == expected
        assert [records.recipe(position) for position in range(records.count)] == recipes
        assert (records.count, records.item_count, records.shard_offsets.tolist()) == counts
    assert expected[3] is None
    assert expected[11] is None
    with pytest.raises(ArtifactError, match="is missing"):
        Index.open(path)


@pytest.mark.parametrize("kind", [Index, IndexRecords])
def test_a_removed_number_that_no_item_has_is_refused(
    kind: type[IndexRecords], hf_icma_bundle: Path, tmp_path: Path
) -> None:
    """An index would count fewer items than it answers with, and prove ranks by that."""
    path = build_index(
        hf_icma_bundle, DATA, tmp_path / "index", shard_items=5, runtime="onnxruntime", threads=1
    )
    with IndexWriter(path) as writer:
        writer.remove(["r3"])
        writer.compact()
    manifest = read_manifest(path, kind=KIND)
    facts = IndexFacts.of_manifest(path, manifest)
    write_index_manifest(path, replace(facts, removed=(3, 7)), manifest.files)
    with pytest.raises(ArtifactError, match="no item has a removed number"):
        kind.open(path)
    write_index_manifest(path, replace(facts, removed=(7,)), manifest.files)
    with kind.open(path) as index:
        assert index.item_count == len(DATA) - 2
