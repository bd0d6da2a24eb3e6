"""The engine's benchmark measures what it says, at a size that takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hficma.benchmarks.drawn import drawn_index, drawn_recipes
from hficma.benchmarks.engine_measures import (
    answer_table,
    batch_table,
    growth_table,
    rerank_table,
    swapped,
)
from hficma.engine import build_index, verify_index
from tests.engine.datasets import NoiseDataset
from tests.engine.factories import tiny_bundle

DATA = NoiseDataset(12)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundles"))


def test_the_engine_scores_what_the_published_graph_scores(bundle: Path) -> None:
    """A ratio of times means nothing where the answers differ."""
    rows = rerank_table(bundle, threads=1, repeats=1)
    assert len(rows) == 4
    for row in rows:
        assert row["swapped_pairs"] == 0
        assert float(row["largest_difference"]) < 1e-5
        assert float(row["ratio"]) > 0


def test_a_swap_is_seen() -> None:
    """Otherwise "same order" would always hold."""
    wanted = np.array([0.9, 0.5, 0.1])
    assert swapped(wanted, np.array([0.9, 0.1, 0.5])) == 1
    assert swapped(wanted, wanted + 1) == 0


def test_a_drawn_index_is_a_whole_index(bundle: Path, tmp_path: Path) -> None:
    """It stands for one of real recipes, so it must be searched and grow as one."""
    photo = tmp_path / "photo.png"
    DATA.photo(0).save(photo)
    rows = growth_table(bundle, tmp_path, photo, [40, 90], keep="projections", threads=1, queries=2)
    assert [row["size"] for row in rows] == [40, 90]
    assert all(float(row["rerank_ms"]) > 0 for row in rows)
    index = drawn_index(
        bundle, tmp_path / f"drawn-90-projections-{bundle.name}", 90,
        keep="projections", side_precision="fp16", prefilter="SQfp16",
    )  # fmt: skip
    assert not verify_index(index, spot_checks=0).problems


def test_answers_and_batches_are_counted(bundle: Path, tmp_path: Path) -> None:
    """Few items: 200 candidates are all of them, so nothing can be missed."""
    index = build_index(bundle, DATA, tmp_path / "i")
    row = answer_table(index, DATA, range(3), threads=1)[0]
    assert row["same_top_10"] == 1.0
    assert row["scored_k1"] == row["scored_k10"] == 1.0
    assert row["certified_ranks"] == 10.0
    rows = batch_table(index, DATA, range(3), threads=1, repeats=1)
    assert rows[0]["times_one"] == 1.0
    assert float(rows[1]["queries_a_second"]) > 0


def test_padding_of_drawn_recipes_is_zero() -> None:
    """As the recipe branch gives them."""
    sides = drawn_recipes(2, np.array([1, 3]), 4, seed=0)
    assert not sides.arrays["tokens"][0, 1:].any()
