"""Runtimes agree with the torch model, say what they are, and `auto` takes only one that agrees."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hficma.engine.bundle.bundle import Bundle
from hficma.engine.runtimes import runtime_class
from hficma.engine.runtimes import selection as auto
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.engine.runtimes.reference import REFERENCE, read_reference
from hficma.engine.runtimes.registry import installed
from hficma.errors import ArtifactError, HficmaError, InputError, MissingDependencyError


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
@pytest.mark.parametrize("kind", ["hf_icma", "adamine"])
def test_a_runtime_gives_what_torch_gave(
    name: str, kind: str, request: pytest.FixtureRequest
) -> None:
    """Export would ship graphs that a runtime reads differently."""
    pytest.importorskip(name, reason=f"{name} is not installed")
    pytest.importorskip("torch", reason="export compares them")
    from hficma.export.parity import bundle_differences

    path: Path = request.getfixturevalue(f"{kind}_bundle")
    bundle = Bundle.open(path, ExecutionOptions(runtime=name, threads=1))
    found = bundle_differences(bundle, read_reference(path / REFERENCE))
    assert {one.graph for one in found} == {*bundle.facts.graphs, "scores"}
    assert all(one.within_tolerance for one in found)
    execution = bundle.describe()["image"]
    assert (execution.runtime, execution.precision, execution.device) == (name, "fp32", "cpu")


def test_auto_measures_once_and_says_why(hf_icma_bundle: Path, tmp_path: Path) -> None:
    """Each start would measure again, or take a runtime without a reason."""
    graph = Bundle.open(hf_icma_bundle).graph("project_image")
    reference = read_reference(hf_icma_bundle / REFERENCE)
    first = auto.choose(graph, lambda: reference, ExecutionOptions(threads=1), cache=tmp_path)
    (measurement,) = (tmp_path / "runtimes").iterdir()
    assert first.runtime in installed("cpu")
    record = json.loads(measurement.read_text())
    measurement.write_text(json.dumps(record | {"milliseconds": {"openvino": 12345.0}}))
    again = auto.choose(graph, lambda: reference, ExecutionOptions(threads=1), cache=tmp_path)
    assert again.milliseconds == {"openvino": 12345.0}
    other = auto.choose(graph, lambda: reference, ExecutionOptions(threads=2), cache=tmp_path)
    assert other.milliseconds != again.milliseconds


@pytest.mark.parametrize(
    "damage", [{"runtime": "tvm"}, {"runtime": 1}, {"milliseconds": None}, {"other": 1}]
)
def test_a_damaged_measurement_is_made_again(
    damage: dict[str, object], hf_icma_bundle: Path, tmp_path: Path
) -> None:
    """A file of the cache would choose a runtime that there is not, at every start."""
    graph = Bundle.open(hf_icma_bundle).graph("tabulate_image")
    reference = read_reference(hf_icma_bundle / REFERENCE)
    auto.choose(graph, lambda: reference, ExecutionOptions(threads=1), cache=tmp_path)
    (measurement,) = (tmp_path / "runtimes").iterdir()
    measurement.write_text(json.dumps(json.loads(measurement.read_text()) | damage))
    chosen = auto.choose(graph, lambda: reference, ExecutionOptions(threads=1), cache=tmp_path)
    assert chosen.runtime in installed("cpu")
    assert json.loads(measurement.read_text())["runtime"] == chosen.runtime


def test_what_is_left_out_is_said(
    hf_icma_bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A faster runtime would be dropped, or another precision run, without a word."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    caplog.set_level("INFO", logger="hficma")
    graph = Bundle.open(hf_icma_bundle).graph("tabulate_image")
    reference = read_reference(hf_icma_bundle / REFERENCE)

    def fail(*_: object, **__: object) -> None:
        raise ArtifactError("no such CPU")

    monkeypatch.setattr(runtime_class("openvino"), "load", fail)
    auto.measure(graph, reference, ExecutionOptions(threads=1))
    assert "graph tabulate_image: runtime openvino is left out (no such CPU)" in caplog.text
    bundle = Bundle.open(hf_icma_bundle)
    bundle.execution = ExecutionOptions(precision="int8")
    assert bundle.graph("recipe").precision == "fp32"
    assert "graph recipe has no int8: it runs in fp32" in caplog.text


def test_reference_data_is_read_for_a_measurement_only(
    hf_icma_bundle: Path, tmp_path: Path
) -> None:
    """Each start would read 300 MB to do nothing with them."""
    graph = Bundle.open(hf_icma_bundle).graph("tabulate_image")
    reads: list[str] = []

    def read() -> dict[str, np.ndarray]:
        reads.append("reference")
        return read_reference(hf_icma_bundle / REFERENCE)

    for _ in range(2):
        auto.choose(graph, read, ExecutionOptions(threads=1), cache=tmp_path)
    assert reads == ["reference"]


def test_a_measurement_that_cannot_be_read_or_kept_is_said(
    hf_icma_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every start would take seconds longer, and nobody would know why."""
    graph = Bundle.open(hf_icma_bundle).graph("tabulate_image")
    reference = read_reference(hf_icma_bundle / REFERENCE)
    auto.choose(graph, lambda: reference, ExecutionOptions(threads=1), cache=tmp_path)
    (measurement,) = (tmp_path / "runtimes").iterdir()
    measurement.write_bytes(b"{")
    auto.choose(graph, lambda: reference, ExecutionOptions(threads=1), cache=tmp_path)
    assert caplog.text.count("is no measurement") == 1
    (tmp_path / "file").write_text("no folder")
    auto.choose(graph, lambda: reference, ExecutionOptions(threads=1), cache=tmp_path / "file")
    assert caplog.text.count("is measured again at each start") == 1


def test_a_precision_that_a_runtime_cannot_run_is_said(
    hf_icma_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A user would wonder why the installed runtime is not the one that runs."""
    caplog.set_level("INFO", logger="hficma")
    graph = replace(Bundle.open(hf_icma_bundle).graph("tabulate_image"), precision="bf16")
    with contextlib.suppress(HficmaError):  # without openvino nothing is left
        auto.measure(graph, read_reference(hf_icma_bundle / REFERENCE), ExecutionOptions(threads=1))
    assert "runtime onnxruntime is left out (cannot run bf16)" in caplog.text


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_a_closed_bundle_holds_no_session(name: str, hf_icma_bundle: Path) -> None:
    """A server that opens a new bundle each day would hold the weights of all before."""
    pytest.importorskip(name, reason=f"{name} is not installed")
    bundle = Bundle.open(hf_icma_bundle, ExecutionOptions(runtime=name, threads=1))
    session = weakref.ref(bundle.runtime("project_image"))
    also = weakref.ref(getattr(session(), "_model", session()))
    bundle.close()
    gc.collect()
    assert session() is None
    assert also() is None, "the model outlives its runtimes"
    with pytest.raises(InputError, match="was closed"):
        bundle.runtime("project_image")


def test_auto_refuses_a_runtime_that_differs(hf_icma_bundle: Path) -> None:
    """A fast runtime with wrong numbers would be taken."""
    graph = Bundle.open(hf_icma_bundle).graph("project_image")
    reference = read_reference(hf_icma_bundle / REFERENCE)
    wrong = dict(reference, image_query=reference["image_query"] + 1)
    with pytest.raises(Exception, match="query differs by"):
        auto.measure(graph, wrong, ExecutionOptions(threads=1))


def test_auto_runs_a_bundle(
    adamine_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="export compares them")
    from hficma.export.bundle_run import ITEM_ARRAYS, run_bundle

    monkeypatch.setenv("HFICMA_HOME", str(tmp_path))
    bundle = Bundle.open(adamine_bundle, ExecutionOptions(threads=1))
    reference = read_reference(adamine_bundle / REFERENCE)
    given = run_bundle(bundle, {name: reference[name] for name in ITEM_ARRAYS if name in reference})
    np.testing.assert_allclose(given["global"], reference["global"], atol=1e-5)
    assert set(bundle.choices) == {"image", "sentence", "recipe"}


def test_a_missing_package_is_named(hf_icma_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user would see ModuleNotFoundError instead of what to install."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    bundle = Bundle.open(hf_icma_bundle, ExecutionOptions(runtime="openvino"))
    with pytest.raises(MissingDependencyError, match=r"hficma\[openvino\]"):
        bundle.runtime("image")


def test_unknown_names_are_refused(hf_icma_bundle: Path) -> None:
    with pytest.raises(InputError, match="runtime tvm"):
        runtime_class("tvm")
    with pytest.raises(InputError, match="runtime tvm"):
        Bundle.open(hf_icma_bundle, ExecutionOptions(runtime="tvm"))
    pytest.importorskip("torch", reason="the device is looked for with torch")
    elsewhere = Bundle.open(hf_icma_bundle, ExecutionOptions(runtime="torch", device="cuda:9"))
    with pytest.raises(InputError, match="cpu"):
        elsewhere.runtime("image")


def test_shapes_are_checked_before_they_reach_a_runtime(hf_icma_bundle: Path) -> None:
    """A photo of another size would fail deep inside, or not at all."""
    bundle = Bundle.open(hf_icma_bundle, ExecutionOptions(runtime="onnxruntime", threads=1))
    with pytest.raises(ValueError, match="photos has shape"):
        bundle.run("image", {"photos": np.zeros((1, 200, 224, 3), np.uint8)})
    with pytest.raises(ValueError, match="photos is missing"):
        bundle.run("image", {})


class _SignalStack(ctypes.Structure):
    """C's stack_t, as Linux lays it out."""

    _fields_ = (
        ("pointer", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


@pytest.mark.skipif(sys.platform != "linux", reason="stack_t is laid out otherwise")
def test_openvino_leaves_the_stack_for_signals(hf_icma_bundle: Path) -> None:
    """A handler would run on memory that is gone: any child that ends kills the process."""
    pytest.importorskip("openvino", reason="openvino is not installed")

    def signal_stack() -> tuple[int | None, int]:
        stack = _SignalStack()
        assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
        return stack.pointer, stack.flags

    before = signal_stack()
    graph = Bundle.open(hf_icma_bundle).graph("tabulate_image")
    first = runtime_class("openvino").load(graph)
    second = runtime_class("openvino").load(graph)
    # Each puts back what it found: freed in this order, the second would put back the first one's.
    del first
    gc.collect()
    del second
    gc.collect()
    assert signal_stack() == before
