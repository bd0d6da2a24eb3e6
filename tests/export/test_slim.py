"""A slim bundle answers as the bundle that it was made from, and says what it lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hficma.artifacts.manifest import read_manifest
from hficma.data import open_dataset
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.runtimes.base import Graph
from hficma.engine.runtimes.onnxruntime_backend import OnnxRuntime
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.errors import ArtifactError
from hficma.export import check_bundle, export_model, slim_bundle
from hficma.export.bundle_run import run_bundle
from hficma.export.calibration_items import item_arrays, smooth_items
from hficma.model import load_model
from tests.engine.datasets import NoiseDataset
from tests.model.factories import make_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "bundle"
    return export_model(make_model(), out, precisions=("int8",), runtimes=("onnxruntime",))


@pytest.fixture(scope="module")
def slim(whole: Path) -> Path:
    return slim_bundle(whole, whole.parent / "slim")


def test_it_holds_one_file_a_graph_and_nothing_of_training(whole: Path, slim: Path) -> None:
    """The package would carry hundreds of megabytes that no search reads."""
    facts = Bundle.open(slim).facts
    assert facts.contents == "fp32, int8, slim"
    files = {file for graph in facts.graphs.values() for file in graph.files.values()}
    assert len(files) == len(facts.graphs)
    assert facts.graphs["image"].files == {"int8": "onnx/image.int8.onnx"}
    assert facts.graphs["cross_tables"].files == {"fp32": "onnx/cross_tables.fp32.onnx"}
    assert set(read_manifest(slim, kind="bundle").files) == files | {
        "vocabulary.json", "parity.json", "README.md",
    }  # fmt: skip
    assert facts.model_id == Bundle.open(whole).model_id
    assert "A slim bundle" in (slim / "README.md").read_text()


def test_it_names_no_path_of_the_disk_that_made_it(tmp_path: Path) -> None:
    """Where it goes the data is not: indexing would look for it there, and a package tell of it."""
    data = tmp_path / "pairs.jsonl"
    record = {"ingredients": ["salt"], "image": "photo.png"}
    data.write_text(json.dumps(record) + "\n", encoding="utf-8")
    NoiseDataset(1).photo(0).save(tmp_path / "photo.png")
    whole = export_model(
        make_model(), tmp_path / "whole", runtimes=("onnxruntime",), data=open_dataset(str(data)),
        trained_on=str(data), queries=0,
    )  # fmt: skip
    facts = Bundle.open(slim_bundle(whole, tmp_path / "slim")).facts
    assert (facts.dataset, facts.trained_on) == (None, "pairs.jsonl")
    for file in (tmp_path / "slim").iterdir():
        if file.suffix in (".json", ".md"):
            assert str(tmp_path) not in file.read_text(encoding="utf-8"), file


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "auto"])
def test_it_gives_what_the_whole_bundle_gives(whole: Path, slim: Path, runtime: str) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    items = item_arrays(smooth_items(Bundle.open(whole), 3))
    known = "onnxruntime" if runtime == "auto" else runtime
    expected, actual = (
        run_bundle(Bundle.open(path, ExecutionOptions(runtime=name, precision=precision)), items)
        for path, name, precision in ((whole, known, "int8"), (slim, runtime, "fp32"))
    )
    # By itself it takes kernels for pairs where they were compiled: another order of summation.
    atol = 1e-6 if runtime == "auto" else 0.0
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=0, atol=atol, err_msg=name)


def test_a_graph_is_loaded_once(slim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each start would read, check and compile the image encoder twice."""
    loads: list[str] = []
    load = OnnxRuntime.load

    def counted(graph: Graph, **options: Any) -> OnnxRuntime:
        loads.append(graph.name)
        return load(graph, **options)

    monkeypatch.setattr(OnnxRuntime, "load", counted)
    bundle = Bundle.open(slim, ExecutionOptions(threads=1))
    assert bundle.runtime("image") is bundle.runtime("image")
    assert loads == ["image"]
    assert bundle.choices["image"].runtime == "onnxruntime"


def test_what_it_lacks_is_said(whole: Path, slim: Path, tmp_path: Path) -> None:
    """A missing file would be reported as damage, or training fail in the middle."""
    with pytest.raises(ArtifactError, match="slim bundle, without torch weights"):
        Bundle.open(slim, ExecutionOptions(runtime="torch")).runtime("image")
    with pytest.raises(ArtifactError, match="slim bundle, without torch weights"):
        load_model(slim)
    with pytest.raises(ArtifactError, match="has no fp16 graphs"):
        Bundle.open(slim, ExecutionOptions(precision="fp16"))
    with pytest.raises(ArtifactError, match="is slim already"):
        slim_bundle(slim, tmp_path / "again")
    with pytest.raises(ArtifactError, match="has no fp16 graphs"):
        slim_bundle(whole, tmp_path / "half", precision="fp16")
    assert list(tmp_path.iterdir()) == []


def test_check_verifies_its_files(slim: Path) -> None:
    assert check_bundle(slim) == []
    (slim / "README.md").write_text("other")
    with pytest.raises(ArtifactError, match="README"):
        check_bundle(slim)
