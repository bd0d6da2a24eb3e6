"""Weights stored narrowly, and computed with in float32.

    table (V, D) float32      becomes      rows (V, D) int8, scales (V, 1) float32
    table[ids]                becomes      float32(rows[ids]) * scales[ids]
    filters float32           becomes      filters float16
    filters * x               becomes      float32(filters) * x

Tables of words and layers of products become int8 rows with a scale each: a quarter of the bytes.
Filters of convolutions become float16, half of them: behind a filter stand all the layers that
follow, and rounding those of EfficientNet-Lite2 to int8 moves photos' vectors by 8 % of what tells
photos apart, against 0.4 %. Nothing but a weight is rounded, so that the numbers are the same on
every processor, which sums of 8-bit products are not (`quantize`). A table is widened where it was
read, V rows being many times those that a recipe needs; other weights are constants, which runtimes
widen once while loading, or keep and widen as they multiply.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hficma.types import Array

LEAST_WEIGHTS = 2048
"""Numbers of a weight below which the nodes that widen it cost more than they save."""
LARGEST = 127
"""Of an int8, but for -128, which has no opposite."""


def store_narrowly(model: Any) -> None:
    """Store large weights of tables, products, recurrent layers and filters narrowly, in place.

    Args:
        model: an `onnx.ModelProto`; weights that are integers already are left alone.
    """
    from onnx import numpy_helper

    graph = model.graph
    weights = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if _is_large(tensor)
    }
    narrow: dict[str, Array] = {}  # by name, each once: several layers may read one weight
    nodes = []
    for node in graph.node:
        for place, axis in _weight_inputs(node):
            weight = node.input[place]
            if weight not in weights:
                continue
            name = f"{weight}.float16" if axis is None else f"{weight}.int8.{axis}"
            wide, scales = f"{name}.wide", f"{name}.scales"
            is_new = name not in narrow
            if axis is None:
                narrow[name] = weights[weight].astype(np.float16)
                widening = [_cast(name, wide)]
            else:
                narrow[name], narrow[scales] = round_rows(weights[weight], axis)
                widening = _widen(name, scales, wide)
            if node.op_type == "Gather":
                nodes += _read_rows(name, scales, ids=node.input[1], rows=node.output[0])
                break
            nodes += widening if is_new else []
            node.input[place] = wide
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(*one[::-1]) for one in narrow.items())
    read = {name for node in nodes for name in node.input}
    unread = [tensor for tensor in graph.initializer if tensor.name not in read]
    for tensor in unread:
        graph.initializer.remove(tensor)


def round_rows(values: Array, axis: int) -> tuple[Array, Array]:
    """Round float32 numbers to int8, with a scale for those that lie along one axis.

    Args:
        values: any shape.
        axis: along which the numbers of one scale lie.

    Returns:
        int8 of the same shape, and float32 scales, of size 1 along it; their product is the
        values but for half a scale at most.
    """
    scales = (np.abs(values).max(axis=axis, keepdims=True) / LARGEST).astype(np.float32)
    scales[scales == 0] = 1  # a row of zeros, or of numbers too small to be told from them
    return np.round(values / scales).astype(np.int8), scales


def _weight_inputs(node: Any) -> list[tuple[int, int | None]]:
    """Return which inputs of a node may be weights, and along which axis one scale is shared.

    A table's rows are (V, D), a product's weight is (inputs, outputs), a recurrent layer's
    (directions, gates, inputs): one scale each for a word, an output, a gate's unit. A
    convolution's filters have none: they are float16.
    """
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "Gather" and attributes.get("axis", 0) == 0:
        return [(0, -1)]
    if node.op_type == "MatMul":
        return [(1, -2)]
    if node.op_type == "Gemm":
        return [(1, -1 if attributes.get("transB") else -2)]
    if node.op_type == "Conv":
        return [(1, None)]
    return [(1, -1), (2, -1)] if node.op_type in ("GRU", "LSTM") else []


def _is_large(tensor: Any) -> bool:
    """Return whether a weight is float32, has rows, and is worth storing narrowly."""
    from onnx import TensorProto

    large = int(np.prod(tensor.dims)) >= LEAST_WEIGHTS and len(tensor.dims) >= 2
    return large and tensor.data_type == TensorProto.FLOAT


def _read_rows(table: str, scales: str, *, ids: str, rows: str) -> list[Any]:
    """Return the nodes that read rows of an int8 table and widen those alone."""
    from onnx import helper

    integers, factors = f"{rows}.int8", f"{rows}.scales"
    return [
        helper.make_node("Gather", [table, ids], [integers], integers),
        helper.make_node("Gather", [scales, ids], [factors], factors),
        *_widen(integers, factors, rows),
    ]


def _widen(integers: str, scales: str, wide: str) -> list[Any]:
    """Return the nodes that make float32 numbers of integers and their scales."""
    from onnx import helper

    cast = f"{wide}.cast"
    return [
        _cast(integers, cast),
        helper.make_node("Mul", [cast, scales], [wide], f"{wide}.mul"),
    ]


def _cast(narrow: str, wide: str) -> Any:
    """Return the node that makes numbers float32."""
    from onnx import TensorProto, helper

    return helper.make_node("Cast", [narrow], [wide], wide, to=TensorProto.FLOAT)
