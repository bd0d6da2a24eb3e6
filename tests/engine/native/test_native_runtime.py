"""The runtime `native`: it gives what any other runtime does, for graphs and for searches."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hficma.engine import Engine, build_index
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.native import build, library
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.engine.runtimes.registry import able
from hficma.errors import InputError
from hficma.types import Array
from tests.engine.datasets import NoiseDataset

CROSS = ("cross_tables", "cross_recipe_projections", "cross_image_projections")


def random_inputs(
    bundle: Bundle, graph: str, groups: int, photos: int, recipes: int
) -> dict[str, Array]:
    """Arrays of the graph's inputs, recipes of several lengths."""
    rng = np.random.default_rng(0)
    sizes = {"G": groups, "B": photos, "M": recipes, "T": 7}
    inputs: dict[str, Array] = {}
    for name, port in bundle.graph(graph).inputs.items():
        shape = [sizes[size] if isinstance(size, str) else size for size in port.shape]
        inputs[name] = rng.normal(size=shape).astype(np.float32)
    inputs["recipe_lengths"] = rng.integers(1, 8, (groups, recipes))
    return inputs


@pytest.mark.parametrize("graph", CROSS)
@pytest.mark.parametrize("shape", [(1, 1, 9), (2, 3, 2), (1, 4, 1)])
def test_a_graph_gives_what_onnxruntime_gives(
    graph: str, shape: tuple[int, int, int], hf_icma_bundle: Path
) -> None:
    """Groups, photos and recipes mixed up would pass on a reference that has one of each."""
    runs = []
    for runtime in ("onnxruntime", "native"):
        bundle = Bundle.open(hf_icma_bundle, ExecutionOptions(runtime=runtime, threads=2))
        runs.append(bundle.run(graph, random_inputs(bundle, graph, *shape)))
        assert bundle.describe()[graph].runtime == runtime
    for name, expected in runs[0].items():
        np.testing.assert_allclose(runs[1][name], expected, rtol=1e-4, atol=1e-5)


def test_other_graphs_are_left_to_auto(hf_icma_bundle: Path) -> None:
    """A search by `native` would have nothing to encode its query with."""
    bundle = Bundle.open(hf_icma_bundle, ExecutionOptions(runtime="native", threads=1))
    assert bundle.runtime("project_image").describe().runtime != "native"
    assert "native" in able("cross_tables", "cpu")
    assert "native" not in able("image", "cpu") + able("cross_tables", "cuda")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("of", ["recipes", "images"])
def test_a_search_answers_as_by_onnxruntime(
    precision: str, of: str, hf_icma_bundle: Path, tmp_path: Path
) -> None:
    """Rows that are read where they lie, of several shards, must be the rows that are meant."""
    items = NoiseDataset(20)
    for keep in ("tokens", "projections", "tables"):
        path = build_index(
            hf_icma_bundle, items, tmp_path / keep, of=of, keep=keep,  # type: ignore[arg-type]
            side_precision=precision, shard_items=8,  # type: ignore[arg-type]
        )  # fmt: skip
        scores = []
        for runtime in ("onnxruntime", "native"):
            with Engine.open(path, runtime=runtime, threads=2) as engine:
                query = (
                    {"image": items.photo(3)} if of == "recipes" else {"recipe": items.recipe(3)}
                )
                answer = engine.search(k=20, **query)  # type: ignore[arg-type]
                scores.append({hit.id: hit.score for hit in answer.hits})
                assert answer.certified == 20
        assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_without_kernels_the_log_says_so(
    hf_icma_bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever installs without a compiler would never learn why searches take twice as long."""
    caplog.set_level(logging.INFO, logger="hficma")
    library.has_kernels.cache_clear()
    library.load.cache_clear()
    monkeypatch.setattr(library, "LIBRARY", "not-compiled.so")
    try:
        assert able("cross_tables", "cpu") == able("image", "cpu")
        expected = "pairs are scored without compiled kernels, slower: they were not compiled"
        assert expected in caplog.text
        with pytest.raises(InputError, match="runtime native: they were not compiled"):
            Bundle.open(hf_icma_bundle, ExecutionOptions(runtime="native")).runtime("cross_tables")
    finally:
        library.has_kernels.cache_clear()
        library.load.cache_clear()


def test_a_build_without_a_compiler_says_what_is_missing(tmp_path: Path) -> None:
    """`pip install` would fail, or succeed without a word."""
    code = f"import runpy; runpy.run_path({build.__file__!r}, run_name='__main__')"
    environment = {"PATH": str(tmp_path), "CC": ""}
    (tmp_path / "engine").mkdir()
    copied = tmp_path / "engine" / "build.py"
    copied.write_text(Path(build.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "engine" / "kernels").mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", code.replace(build.__file__, str(copied))],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.strip() == "there is no C compiler"
