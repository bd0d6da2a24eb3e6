"""Building and adding share one loop: the same items become the same shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from hficma.engine import IndexWriter, build_index
from hficma.engine.index.index_facts import SHARDS, IndexFacts
from hficma.engine.index.shard_facts import ShardFacts
from tests.engine.datasets import NoiseDataset

SHARD_ITEMS = 4


@pytest.mark.parametrize("of", ["recipes", "images"])
def test_added_items_become_the_shards_that_building_would_write(
    hf_icma_bundle: Path, tmp_path: Path, of: str
) -> None:
    """A loop of its own could number, leave out or store them otherwise."""
    options = {"of": of, "shard_items": SHARD_ITEMS, "keep": "projections", "threads": 1}
    problems: list[str] = []
    added: list[str] = []
    whole = build_index(
        hf_icma_bundle, NoiseDataset(12, bad=(5, 10)), tmp_path / "whole",
        on_bad=problems.append, **options,
    )  # fmt: skip
    grown = build_index(hf_icma_bundle, NoiseDataset(4), tmp_path / "grown", **options)
    with IndexWriter(grown) as writer:
        later = NoiseDataset(8, first=4, bad=(1, 6))
        assert writer.add(later, threads=1, on_bad=added.append) == 6
    assert len(problems) == len(added) == 2
    built, extended = IndexFacts.read(whole), IndexFacts.read(grown)
    assert built.shards == extended.shards == ("000000", "000001", "000002")
    assert built.next_number == extended.next_number == 12
    for name in built.shards:
        facts = [ShardFacts.read(index / SHARDS / name) for index in (whole, grown)]
        assert facts[0].count == (4 if name == "000000" else 3)
        assert facts[0].files == facts[1].files  # SHA-256 of each
