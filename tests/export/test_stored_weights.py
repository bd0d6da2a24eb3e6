"""Weights stored narrowly are those of the model but for half a step, in a part of the bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hficma.engine.bundle.bundle import Bundle
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.export import export_model
from hficma.export import stored_weights as stored
from hficma.export.bundle_run import run_bundle
from hficma.export.calibration_items import item_arrays, smooth_items
from hficma.model import Model
from tests.model.factories import make_model

SIZES = {"width": 64, "word_dim": 64, "sentence_dim": 48, "global_dim": 32}


@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=3, max_side=6),
        elements=st.floats(-1e4, 1e4, width=32),
    ),
    st.sampled_from([-1, -2]),
)
def test_rounding_is_off_by_half_a_step_at_most(values: np.ndarray, axis: int) -> None:
    """A scale of the wrong axis, or an overflow at the largest number of a row."""
    integers, scales = stored.round_rows(values, axis)
    assert integers.dtype == np.int8
    assert scales.shape[axis] == 1
    limit = scales * 0.5 * (1 + 1e-4) + 1e-30
    assert np.all(np.abs(integers * scales.astype(np.float64) - values) <= limit)


@pytest.mark.parametrize(
    "model",
    [make_model(sentence="gru", **SIZES), make_model("adamine", ingredient_width=40, **SIZES)],
    ids=["GRU and products", "LSTM"],
)
def test_encoders_give_nearly_the_same_in_half_the_bytes(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kind of layer that is rounded along the wrong axis, or left out, in some runtime."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    monkeypatch.setattr(stored, "LEAST_WEIGHTS", 500)  # the tests' vocabulary has twenty words
    out = export_model(model, tmp_path / "bundle", precisions=("int8",), weight_only=True)
    items = item_arrays(smooth_items(model, 6))
    exact = run_bundle(Bundle.open(out, ExecutionOptions(runtime="onnxruntime")), items)
    for runtime in ("onnxruntime", "openvino"):
        bundle = Bundle.open(out, ExecutionOptions(runtime=runtime, precision="int8"))
        narrow = run_bundle(bundle, items)
        # Random weights see photos all alike: of them, no spread.
        image = narrow["image_global"] - exact["image_global"]
        assert np.linalg.norm(image) < 0.01 * np.linalg.norm(exact["image_global"])
        for name in ("sentence_vectors", "recipe_global"):
            spread = np.linalg.norm(exact[name] - exact[name].mean(axis=0))
            assert np.linalg.norm(narrow[name] - exact[name]) < 0.05 * spread
    content = (out / "onnx/image.int8.onnx").read_bytes()
    assert b"QuantizeLinear" not in content, "nothing computes in integers"
    for name in ("sentence", "recipe"):
        sizes = {p: (out / f"onnx/{name}.{p}.onnx").stat().st_size for p in ("fp32", "int8")}
        assert sizes["int8"] < 0.5 * sizes["fp32"], name


def test_a_table_that_two_graphs_nodes_read_is_stored_once() -> None:
    """Twice the bytes, or a name that stands twice in a file, which runtimes refuse."""
    from onnx import TensorProto, helper, numpy_helper

    table = numpy_helper.from_array(np.ones((100, 30), np.float32), "table")
    ids, rows, others = (
        helper.make_tensor_value_info(name, kind, ["n", *rest])
        for name, kind, rest in (
            ("ids", TensorProto.INT64, ()),
            ("rows", TensorProto.FLOAT, (30,)),
            ("others", TensorProto.FLOAT, (30,)),
        )
    )
    nodes = [
        helper.make_node("Gather", ["table", "ids"], [name], name) for name in ("rows", "others")
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [ids], [rows, others], [table]))
    stored.store_narrowly(model)
    names = [tensor.name for tensor in model.graph.initializer]
    assert len(names) == 2
    assert len(model.SerializeToString()) < 100 * 30 + 1500
