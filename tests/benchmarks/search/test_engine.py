"""The engine's benchmark measures what it says, at a size that takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hficma.benchmarks.common.plots import write_growth_plot
from hficma.benchmarks.common.synthetic_index import synthetic_index
from hficma.benchmarks.search.batches import batch_row
from hficma.benchmarks.search.engine import main
from hficma.benchmarks.search.growth import growth_panels, growth_table
from hficma.benchmarks.search.reranking import rerank_table
from hficma.engine import build_index, verify_index
from hficma.errors import InputError
from tests.engine.datasets import NoiseDataset
from tests.engine.factories import tiny_bundle

DATA = NoiseDataset(12)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    DATA.photo(0).save(path)
    return path


def test_re_ranking_is_timed_at_every_level(bundle: Path, photo: Path, tmp_path: Path) -> None:
    """A level that is not measured would be a claim without a figure."""
    rows = rerank_table(bundle, tmp_path, photo, threads=1, repeats=1)
    assert [row["what"] for row in rows] == [
        f"{level}, {lengths}"
        for lengths in ("20 each", "real")
        for level in ("tokens", "projections", "tables")
    ]
    for row in rows:
        assert float(row["ratio"]) == pytest.approx(float(row["published_ms"]) / float(row["ms"]))
        assert float(row["gemm_share"]) > 0
        best = min(float(row["ms"]), float(str(row["screened"]).replace("–", "inf")))
        assert float(row["times_eager"]) == pytest.approx(float(row["eager_ms"]) / best, rel=0.2)


def test_a_synthetic_index_is_a_whole_index(bundle: Path, photo: Path, tmp_path: Path) -> None:
    """It stands for one of real recipes, so it must be searched and grow as one."""
    rows = growth_table(bundle, tmp_path, photo, [40, 90], threads=1, queries=2)
    assert [row["size"] for row in rows] == [40, 90]
    assert all(float(row["rerank_ms"]) > 0 for row in rows)
    index = synthetic_index(
        bundle, tmp_path / f"drawn-90-tokens-{bundle.name}", 90,
        level="tokens", precision="fp16", prefilter="SQfp16",
    )  # fmt: skip
    assert not verify_index(index, spot_checks=0).problems


def test_batches_are_counted(bundle: Path, tmp_path: Path) -> None:
    """Photos that are left out would make a batch faster than it is."""
    index = build_index(bundle, DATA, tmp_path / "i")
    row = batch_row(index, [DATA.photo(number) for number in range(3)], threads=1)
    assert row["what"] == "d = 8, 12 recipes, tables"
    assert float(row["gain"]) == pytest.approx(float(row["alone_ms"]) / float(row["batch_ms"]))
    assert 0 < float(row["encoded_ms"]) < float(row["p50_ms"])


def test_growth_is_drawn(tmp_path: Path) -> None:
    """Worse than linear must be seen: every stage is a line, with a linear one beside it."""
    stages = ("total", "encode", "records")
    rows: list[dict[str, str | float]] = [
        {
            "what": f"{size} recipes", "size": size, **{f"{name}_ms": 5.0 for name in stages},
            "prefilter_ms": size**2 / 1e6, "rerank_ms": 0.1, "open_s": 0.2, "own_mb": 300.0,
            "peak_mb": 400.0, "disk_mb": size / 100,
        }
        for size in (1_000, 10_000, 100_000)
    ]  # fmt: skip
    sizes, panels = [1_000.0, 10_000.0, 100_000.0], growth_panels(rows)
    for name in ("plot.svg", "plot.png"):
        write_growth_plot(tmp_path / name, sizes, panels)
        assert (tmp_path / name).stat().st_size > 5000
    with pytest.raises(InputError, match=r"svg or \.png"):
        write_growth_plot(tmp_path / "plot.pdf", sizes, panels)


def test_parts_add_to_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole takes minutes: run in parts, no part may undo another."""
    monkeypatch.setenv("HFICMA_HOME", str(tmp_path))
    file = tmp_path / "engine.json"
    file.write_text('{"tables": {"rerank": {"title": "before", "rows": []}}}')
    main(
        only=["growth"], bundle=None, photos=1,
        largest=1000, wide=8, repeats=1, threads=1,
        plot=tmp_path / "growth.svg", json_file=file,
    )  # fmt: skip
    tables = json.loads(file.read_text())["tables"]
    assert list(tables) == ["rerank", "growth"]
    assert tables["growth"]["rows"][0]["size"] == 1000
    with pytest.raises(InputError, match="--only speed"):
        main(only=["speed"])
