"""Rules for operators that compute: by element, over axes, products, windows, time steps.

Each returns the shape and type of what an operator gives, and the multiply-adds that it takes. The
values are computed only where later shapes may follow from them: by element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .onnx_model import UnfitError, Values
from .operation import Call, Result, Rule, axis_of, one_tensor, tensor_of

MOST_WINDOW = 256
"""Pixels that a window may span, or its padding add: no photo here is larger."""


def _same(call: Call) -> Result:
    """Follow an operator that changes neither shape nor type, in one pass."""
    return one_tensor(call.shape(), call[0].dtype)


def _elementwise(function: Callable[..., Any] | None, dtype: str = "") -> Callable[[Call], Result]:
    """Return the rule of an operator by element, broadcast as numpy does; None: values unknown."""

    def follow(call: Call) -> Result:
        shape = np.broadcast_shapes(*(tensor.shape for tensor in call.inputs if tensor))

        def compute() -> Values | None:
            values = call.values()
            if values is None or function is None:
                return None
            result: Values = np.broadcast_to(function(*values), shape)
            return result

        return [tensor_of(shape, dtype or call[-1].dtype, compute)], 0.0

    return follow


def _divide(left: Values, right: Values) -> Values | None:
    """Divide values as ONNX does; None where an integer would be divided by 0."""
    if np.issubdtype(left.dtype, np.integer):
        if not right.all():
            return None
        # ONNX divides integers as C does, towards zero; numpy's // goes down.
        towards_zero: Values = np.sign(left) * np.sign(right) * (np.abs(left) // np.abs(right))
        return towards_zero
    quotient: Values = left / right
    return quotient


def _remainder(call: Call) -> Result:
    """Follow remainders, with the sign of the divisor or, by `fmod`, of what is divided."""
    function = np.fmod if call.attribute("fmod", 0) else np.mod

    def remainder(left: Values, right: Values) -> Values | None:
        result: Values | None = function(left, right) if right.all() else None
        return result

    return _elementwise(remainder)(call)


def _reduce(call: Call) -> Result:
    """Follow a reduction: axes of size 1 or, without `keepdims`, none; one addition an element."""
    rank = len(call.shape())
    axes = call.integers(1) if call.has(1) else list(range(rank))
    # No axes at all mean all of them, unless noop_with_empty_axes is set, which no export does.
    gone = {axis_of(axis, rank) for axis in axes} or set(range(rank))
    keep = call.attribute("keepdims", 1)
    shape = [
        1 if i in gone else size for i, size in enumerate(call.shape()) if keep or i not in gone
    ]
    return one_tensor(shape, call[0].dtype, math.prod(call.shape()))


def _matmul(call: Call) -> Result:
    """Follow (..., n, k) times (..., k, m), leading axes broadcast, or times a vector (k,)."""
    left, right = call.shape(0), call.shape(1)
    vector = len(right) == 1  # a matrix times a vector, as a column that is dropped again
    if vector:
        right = (*right, 1)
    if len(left) < 2 or left[-1] != right[-2]:
        raise ValueError("shapes")
    shape = (*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1])
    work = float(math.prod(shape) * left[-1])
    return one_tensor(shape[:-1] if vector else shape, call[0].dtype, work)


def _gemm(call: Call) -> Result:
    """Follow (n, k) times (k, m) to (n, m), either of them transposed by an attribute."""
    (rows, inner), (other, columns) = call.shape(0), call.shape(1)
    if call.attribute("transA", 0):
        rows, inner = inner, rows
    if call.attribute("transB", 0):
        other, columns = columns, other
    if inner != other:
        raise ValueError("shapes")
    return one_tensor((rows, columns), call[0].dtype, rows * inner * columns)


def _conv(call: Call) -> Result:
    """Follow a convolution in g groups: (B, C, ...) by (O, C / g, kernel) to (B, O, ...)."""
    batch, channels, *_ = call.shape()
    filters, group_channels, *kernel = call.shape(1)
    groups = call.attribute("group", 1)
    if group_channels * groups != channels or filters % groups:
        raise ValueError("channels")
    shape = (batch, filters, *_windows(call, kernel))
    return one_tensor(shape, call[0].dtype, math.prod(shape) * group_channels * math.prod(kernel))


def _pool(call: Call) -> Result:
    """Follow a pooling: (B, C, ...) to (B, C, ...), of fewer positions."""
    kernel = call.attribute("kernel_shape", ())
    shape = (*call.shape()[:2], *_windows(call, kernel))
    return one_tensor(shape, call[0].dtype, math.prod(shape) * math.prod(kernel))


def _windows(call: Call, kernel: Sequence[int]) -> list[int]:
    """Return the sizes (behind B, C) of what windows of a kernel give over an input (B, C, ...)."""
    sizes = call.shape()[2:]
    count = len(sizes)
    if call.attribute("auto_pad", "NOTSET") != "NOTSET" or len(kernel) != count:
        raise ValueError("padding")
    pads = call.attribute("pads", (0,) * 2 * count)
    strides = call.attribute("strides", (1,) * count)
    dilations = call.attribute("dilations", (1,) * count)
    if len(pads) != 2 * count or min(pads) < 0 or min(*strides, *dilations, *kernel) < 1:
        raise ValueError("window")
    results = []
    for i, size in enumerate(sizes):
        padded = size + pads[i] + pads[count + i] - dilations[i] * (kernel[i] - 1) - 1
        # Padding is memory too: some kernels copy the input with it.
        if max(pads[i], pads[count + i], dilations[i] * kernel[i]) > 4 * MOST_WINDOW:
            raise UnfitError("has a window of an absurd size")
        steps = padded / strides[i]
        results.append(
            (math.ceil(steps) if call.attribute("ceil_mode", 0) else int(steps // 1)) + 1
        )
    return results


def _global_pool(call: Call) -> Result:
    """Follow a pooling over all positions: (B, C, ...) to (B, C, 1, ...)."""
    batch, channels, *sizes = call.shape()
    return one_tensor(
        (batch, channels, *(1 for _ in sizes)), call[0].dtype, math.prod(call.shape())
    )


def _recurrent(gates: int) -> Rule:
    """Return the rule of a GRU (3 gates) or an LSTM (4, and a cell state among its outputs)."""

    def follow(call: Call) -> Result:
        steps, batch, width = call.shape()
        directions, rows, inputs = call.shape(1)
        hidden = call.attribute("hidden_size", 0)
        if rows != gates * hidden or inputs != width or call.shape(2)[2] != hidden:
            raise ValueError("shapes")
        last = one_tensor((directions, batch, hidden), call[0].dtype)[0]
        every = one_tensor((steps, directions, batch, hidden), call[0].dtype)[0]
        cost = float(steps * directions * batch * rows * (width + hidden))
        return every + last + (last if gates == 4 else []), cost

    return follow


COMPUTE_RULES: dict[str, Rule] = {
    "Add": _elementwise(np.add),
    "AveragePool": _pool,
    "BatchNormalization": _same,
    "Clip": _same,
    "Conv": _conv,
    "DequantizeLinear": lambda call: one_tensor(call.shape(), call[1].dtype),
    "Div": _elementwise(_divide),
    "Equal": _elementwise(np.equal, "bool"),
    "Exp": _same,
    "GRU": _recurrent(3),
    "Gelu": _same,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "Greater": _elementwise(np.greater, "bool"),
    "GreaterOrEqual": _elementwise(np.greater_equal, "bool"),
    "HardSigmoid": _same,
    "HardSwish": _same,
    "LSTM": _recurrent(4),
    "LayerNormalization": _same,
    "Less": _elementwise(np.less, "bool"),
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Mod": _remainder,
    "Mul": _elementwise(np.multiply),
    "Neg": _same,
    "Pow": _elementwise(None),
    "QuantizeLinear": lambda call: one_tensor(call.shape(), call[2].dtype),
    "ReduceL2": _reduce,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "Relu": _same,
    "Sigmoid": _same,
    "Softmax": _same,
    "Sub": _elementwise(np.subtract),
    "Tanh": _same,
    "Where": _elementwise(np.where),
}
"""Rules by operator."""
