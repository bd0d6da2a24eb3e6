"""Weights stored as int8 rows with a float32 scale each, and computed with in float32.

    table (V, D) float32      becomes      rows (V, D) int8, scales (V, 1) float32
    table[ids]                becomes      float32(rows[ids]) * scales[ids]

A quarter of the bytes, for graphs that are tables more than anything: word vectors, and the layers
behind them; and for convolutions that compute in float32 where the others do in int8. Nothing but a
weight is rounded, by at most half a step of its own row, so that the numbers are the same on every
processor, which sums of 8-bit products are not (`quantize`). A table is widened where it was read,
V rows being many times those that a recipe needs; other weights are constants, which runtimes widen
once while loading, or keep and widen as they multiply.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hficma.types import Array

LEAST_WEIGHTS = 2048
"""Numbers of a weight below which the nodes that widen it cost more than they save."""
LEAST_FILTERS = 100_000
"""Numbers of a convolution's weight below which it stays float32. A network's first layers are
small, and every other one sees their error: rounding those of EfficientNet-Lite2 that int8 disturbs
most would move photos' vectors a fifth farther, and save 4 % of the file."""
LARGEST = 127
"""Of an int8, but for -128, which has no opposite."""


def store_int8(model: Any) -> None:
    """Store large weights of tables, products, convolutions and recurrent layers as int8, in place.

    Args:
        model: an `onnx.ModelProto`; weights that are integers already are left alone.
    """
    from onnx import numpy_helper

    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    stored: set[str] = set()
    nodes = []
    for node in graph.node:
        wide = node.output[0]
        for place, axis in _weight_inputs(node):
            tensor = weights.get(node.input[place])
            least = LEAST_FILTERS if node.op_type == "Conv" else LEAST_WEIGHTS
            if tensor is None or not _is_large(tensor, least):
                continue
            name = f"{tensor.name}.int8.{axis}"
            if name not in stored:  # several layers may read one weight
                rows, scales = round_rows(numpy_helper.to_array(tensor), axis)
                graph.initializer.append(numpy_helper.from_array(rows, name))
                graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scales"))
                stored.add(name)
                if node.op_type != "Gather":
                    nodes += _widen(name, f"{name}.scales", f"{name}.wide")
            if node.op_type == "Gather":
                nodes.append(_gather(name, node.input[1], f"{wide}.int8"))
                nodes.append(_gather(f"{name}.scales", node.input[1], f"{wide}.scales"))
                nodes += _widen(f"{wide}.int8", f"{wide}.scales", wide)
                break
            node.input[place] = f"{name}.wide"
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    unread = [tensor for tensor in graph.initializer if tensor.name not in read]
    for tensor in unread:
        graph.initializer.remove(tensor)


def round_rows(values: Array, axis: int | tuple[int, ...]) -> tuple[Array, Array]:
    """Round float32 numbers to int8, with a scale for those that lie along one axis or several.

    Args:
        values: any shape.
        axis: along which the numbers of one scale lie; or axes.

    Returns:
        int8 of the same shape, and float32 scales, of size 1 along them; their product is the
        values but for half a scale at most.
    """
    scales = (np.abs(values).max(axis=axis, keepdims=True) / LARGEST).astype(np.float32)
    scales[scales == 0] = 1  # a row of zeros, or of numbers too small to be told from them
    return np.round(values / scales).astype(np.int8), scales


def _weight_inputs(node: Any) -> list[tuple[int, int | tuple[int, ...]]]:
    """Return which inputs of a node may be weights, and along which axis one scale is shared.

    A table's rows are (V, D), a product's weight is (inputs, outputs), a recurrent layer's
    (directions, gates, inputs), a convolution's (filters, inputs, height, width): one scale each
    for a word, an output, a gate's unit, a filter.
    """
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "Gather" and attributes.get("axis", 0) == 0:
        return [(0, -1)]
    if node.op_type == "MatMul":
        return [(1, -2)]
    if node.op_type == "Gemm":
        return [(1, -1 if attributes.get("transB") else -2)]
    if node.op_type == "Conv":
        sides = next((len(a.ints) for a in node.attribute if a.name == "kernel_shape"), 2)
        return [(1, tuple(range(-1 - sides, 0)))]
    return [(1, -1), (2, -1)] if node.op_type in ("GRU", "LSTM") else []


def _is_large(tensor: Any, least: int) -> bool:
    """Return whether a weight is float32, has rows, and is worth storing narrowly."""
    from onnx import TensorProto

    large = int(np.prod(tensor.dims)) >= least and len(tensor.dims) >= 2
    return large and tensor.data_type == TensorProto.FLOAT


def _widen(integers: str, scales: str, wide: str) -> list[Any]:
    """Return the nodes that make float32 numbers of integers and their scales."""
    from onnx import TensorProto, helper

    cast = f"{wide}.cast"
    return [
        helper.make_node("Cast", [integers], [cast], cast, to=TensorProto.FLOAT),
        helper.make_node("Mul", [cast, scales], [wide], f"{wide}.mul"),
    ]


def _gather(table: str, ids: str, rows: str) -> Any:
    """Return the node that reads rows of a table."""
    from onnx import helper

    return helper.make_node("Gather", [table, ids], [rows], rows)
