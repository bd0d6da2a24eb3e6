"""The engine's benchmark measures what it says, at a size that takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hficma.benchmarks.common.synthetic_index import TokenPool, drawn_index, drawn_recipes
from hficma.benchmarks.search.engine import main
from hficma.benchmarks.search.engine_measures import (
    answer_table,
    batch_table,
    rerank_table,
    swapped,
)
from hficma.benchmarks.search.growth import growth_table, steepest, write_growth_plot
from hficma.engine import Bundle, build_index, verify_index
from hficma.engine.encoder import raise_level
from hficma.engine.index.item_encoding import LEVELS, BatchEncodings, Level, ragged_rows
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.errors import InputError
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
    assert row["r1_gain"] == pytest.approx(float(row["r1"]) - float(row["r1_global"]))
    rows = batch_table(index, DATA, range(3), threads=1)
    assert rows[0]["times_one"] == 1.0
    for one in rows:
        assert float(one["queries_a_second"]) > 0
        assert float(one["rerank_gemm_share"]) > 0
        assert float(one["encode_gemm_share"]) > 0


def test_padding_of_drawn_recipes_is_zero() -> None:
    """As the recipe branch gives them."""
    encodings = drawn_recipes(2, np.array([1, 3]), 4, seed=0)
    assert not encodings.arrays["tokens"][0, 1:].any()


@pytest.mark.parametrize("level", LEVELS)
def test_rows_of_a_pool_are_those_of_its_tokens(bundle: Path, level: Level) -> None:
    """Sides made of ready rows must be what the branches would make of the same tokens."""
    opened = Bundle.open(bundle, ExecutionOptions(threads=1))
    lengths = np.array([3, 1, 5])
    tokens = TokenPool(opened, "tokens").recipes(lengths, np.random.default_rng(4))
    wanted = raise_level(opened, "recipe", BatchEncodings(lengths, tokens.arrays), level)
    found = TokenPool(opened, level).recipes(lengths, np.random.default_rng(4))
    for name in LEVELS[level]:
        np.testing.assert_allclose(ragged_rows(found, name), ragged_rows(wanted, name), atol=1e-5)


def test_growth_is_named_and_drawn(tmp_path: Path) -> None:
    """Worse than linear must be seen: a stage that squares is named with its power."""
    stages = ("total", "encode", "records")
    rows: list[dict[str, str | float]] = [
        {
            "what": f"{size} recipes", "size": size, **{f"{name}_ms": 5.0 for name in stages},
            "prefilter_ms": size**2 / 1e6, "rerank_ms": 0.1, "open_s": 0.2, "own_mb": 300.0,
            "peak_mb": 400.0, "disk_mb": size / 100,
        }
        for size in (1_000, 10_000, 100_000)
    ]  # fmt: skip
    assert "prefilter, as size to the power of 2.00" in steepest(rows)
    assert "nothing grows" in steepest(rows[:1])
    for name in ("plot.svg", "plot.png"):
        write_growth_plot(rows, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5000
    with pytest.raises(InputError, match=r"svg or \.png"):
        write_growth_plot(rows, tmp_path / "plot.pdf")


def test_parts_add_to_one_file(tmp_path: Path) -> None:
    """The whole takes a quarter of an hour: run in parts, no part may undo another."""
    file = tmp_path / "engine.json"
    file.write_text('{"tables": {"rerank": {"title": "before", "rows": []}}}')
    main(
        only=["growth"], bundle=None, home=tmp_path, data=None, items=10, queries=1, photos=1,
        largest=1000, wide=8, wide_items=10, backbone="tiny", repeats=1, threads=1,
        plot=tmp_path / "growth.svg", json_file=file,
    )  # fmt: skip
    tables = json.loads(file.read_text())["tables"]
    assert list(tables) == ["rerank", "growth"]
    assert tables["growth"]["rows"][0]["size"] == 1000
    with pytest.raises(InputError, match="--only speed"):
        main(only=["speed"], home=tmp_path)
