"""Rules for operators that fill, move, cut and join arrays, and compute nothing of their own.

Each returns the shape and type of what an operator gives. Their results may be sizes of what comes
behind, so where values are few and known, they are computed too. Source of all rules: the operators
of ONNX, version 20, https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .onnx_model import DTYPES, KnownTensor, UnfitError, Values
from .operation import Call, Result, Rule, axis_of, one_tensor, tensor_of


def _cast(call: Call) -> Result:
    """Follow a change of the element type, to the one that ONNX has the number `to` for."""
    dtype = DTYPES[call.attribute("to", 0)][0]
    return [tensor_of(call.shape(), dtype, lambda: call[0].values)], 0.0


def _constant(call: Call) -> Result:
    """Follow a constant: its value is an attribute."""
    return [call.node.attributes["value"]], 0.0


def _constant_of_shape(call: Call) -> Result:
    """Follow the filling of an array, whose shape is the input."""
    shape = call.integers(0)
    value = call.attribute("value", KnownTensor((1,), "float32", np.zeros(1, np.float32)))
    if math.prod(value.shape) != 1:
        raise ValueError("value")
    fill = value.values

    def compute() -> Values | None:
        return None if fill is None else np.full(shape, fill.reshape(-1)[0])

    return [tensor_of(shape, value.dtype, compute)], 0.0


def _range(call: Call) -> Result:
    """Follow numbers from a start to a limit, in steps."""
    start, limit, step = (call[i].values for i in range(3))
    if start is None or limit is None or step is None:
        raise UnfitError("has a Range whose length depends on what it reads")
    first, last, by = (one.reshape(-1)[0].item() for one in (start, limit, step))
    count = max(0, math.ceil((last - first) / by))
    return [tensor_of((count,), call[0].dtype, lambda: np.arange(count) * by + first)], 0.0


def _expand(call: Call) -> Result:
    """Follow a broadcast to the shape that the second input holds."""
    target = tuple(call.integers(1))
    if any(size < 0 for size in target):
        raise ValueError("negative size")
    shape = np.broadcast_shapes(call.shape(), target)

    def compute() -> Values | None:
        values = call[0].values
        return None if values is None else np.broadcast_to(values, shape)

    return [tensor_of(shape, call[0].dtype, compute)], 0.0


def _shape(call: Call) -> Result:
    """Follow the reading of an array's shape, or of the axes from `start` to `end`."""
    shape = call.shape()[call.attribute("start", 0) : call.attribute("end", None)]
    return [tensor_of((len(shape),), "int64", lambda: np.array(shape, np.int64))], 0.0


def _gather(call: Call) -> Result:
    """Follow a look-up: the axes of the positions replace one axis, (a, N, b) to (a, ..., b)."""
    axis = axis_of(call.attribute("axis", 0), len(call.shape()))
    shape = call.shape()[:axis] + call.shape(1) + call.shape()[axis + 1 :]

    def compute() -> Values | None:
        values = call.values()
        return None if values is None else np.take(values[0], values[1].astype(np.int64), axis)

    return [tensor_of(shape, call[0].dtype, compute)], 0.0


def _gather_elements(call: Call) -> Result:
    """Follow a look-up of single elements: the shape is that of the positions."""
    return one_tensor(call.shape(1), call[0].dtype)


def _concat(call: Call) -> Result:
    """Follow a join along one axis, all others being equal."""
    shapes = [tensor.shape for tensor in call.inputs if tensor]
    axis = axis_of(call.attribute("axis", 0), len(shapes[0]))
    for shape in shapes:
        if shape[:axis] + shape[axis + 1 :] != shapes[0][:axis] + shapes[0][axis + 1 :]:
            raise ValueError("shapes")
    size = sum(shape[axis] for shape in shapes)

    def compute() -> Values | None:
        values = call.values()
        return None if values is None else np.concatenate(values, axis)

    joined = (*shapes[0][:axis], size, *shapes[0][axis + 1 :])
    return [tensor_of(joined, call[0].dtype, compute)], 0.0


def _reshape(call: Call) -> Result:
    """Follow a change of shape: 0 keeps an axis, -1 is what is left over."""
    target, shape = call.integers(1), call.shape()
    if not call.attribute("allowzero", 0):
        target = [shape[i] if size == 0 else size for i, size in enumerate(target)]
    if target.count(-1) == 1:
        rest = math.prod(size for size in target if size != -1)
        target[target.index(-1)] = math.prod(shape) // rest if rest else 0
    if math.prod(target) != math.prod(shape):
        raise ValueError("sizes")
    return [tensor_of(target, call[0].dtype, lambda: _reshaped(call[0].values, target))], 0.0


def _flatten(call: Call) -> Result:
    """Follow a change of shape to a matrix: the axes before one, and those from it on."""
    shape = call.shape()
    axis = call.attribute("axis", 1)
    axis = axis if axis >= 0 else axis + len(shape)
    if not 0 <= axis <= len(shape):
        raise ValueError("axis")
    target = (math.prod(shape[:axis]), math.prod(shape[axis:]))
    return [tensor_of(target, call[0].dtype, lambda: _reshaped(call[0].values, target))], 0.0


def _squeeze(call: Call) -> Result:
    """Follow the dropping of axes of size 1: those of the second input, or all."""
    rank = len(call.shape())
    if call.has(1):
        axes = {axis_of(axis, rank) for axis in call.integers(1)}
    else:
        axes = {axis for axis, size in enumerate(call.shape()) if size == 1}
    if any(call.shape()[axis] != 1 for axis in axes):
        raise ValueError("axes")
    shape = [size for axis, size in enumerate(call.shape()) if axis not in axes]
    return [tensor_of(shape, call[0].dtype, lambda: _reshaped(call[0].values, shape))], 0.0


def _unsqueeze(call: Call) -> Result:
    """Follow the adding of axes of size 1, by their places in the result."""
    added = call.integers(1)
    rank = len(call.shape()) + len(added)
    axes = {axis_of(axis, rank) for axis in added}
    if len(axes) != len(added):
        raise ValueError("axes")
    sizes = iter(call.shape())
    shape = [1 if axis in axes else next(sizes) for axis in range(rank)]
    return [tensor_of(shape, call[0].dtype, lambda: _reshaped(call[0].values, shape))], 0.0


def _transpose(call: Call) -> Result:
    """Follow a permutation of axes, which reverses them where none is given."""
    rank = len(call.shape())
    order = call.attribute("perm", tuple(reversed(range(rank))))
    if sorted(order) != list(range(rank)):
        raise ValueError("perm")

    def compute() -> Values | None:
        values = call[0].values
        return None if values is None else values.transpose(order)

    shape = [call.shape()[axis] for axis in order]
    return [tensor_of(shape, call[0].dtype, compute)], 0.0


def _pad(call: Call) -> Result:
    """Follow a padding: the second input has rows before each axis, then rows behind each."""
    shape, pads = call.shape(), call.integers(1)
    axes = call.integers(3) if call.has(3) else list(range(len(shape)))
    if len(pads) != 2 * len(axes):
        raise ValueError("pads")
    padded = list(shape)
    for place, axis in enumerate(axes):
        padded[axis_of(axis, len(shape))] += pads[place] + pads[len(axes) + place]
    if min(padded, default=0) < 0:
        raise ValueError("size")
    return one_tensor(padded, call[0].dtype)


def _size(call: Call) -> Result:
    """Follow the reading of an array's number of elements."""
    count = math.prod(call.shape())
    return [tensor_of((), "int64", lambda: np.array(count, np.int64))], 0.0


def _tile(call: Call) -> Result:
    """Follow a repetition along each axis, as often as the second input says."""
    repeats = call.integers(1)
    if len(repeats) != len(call.shape()) or min(repeats, default=0) < 0:
        raise ValueError("repeats")
    shape = [size * count for size, count in zip(call.shape(), repeats, strict=True)]
    return one_tensor(shape, call[0].dtype)


def _slice(call: Call) -> Result:
    """Follow a cut: starts, ends, axes and steps are inputs, one number an axis."""
    shape = list(call.shape())
    starts, ends = call.integers(1), call.integers(2)
    axes = call.integers(3) if call.has(3) else list(range(len(starts)))
    steps = call.integers(4) if call.has(4) else [1] * len(starts)
    cut = [slice(None)] * len(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        place = axis_of(axis, len(shape))
        # ONNX writes "to the end" of a step backwards as a number below every position.
        stop = None if step < 0 and end < -shape[place] else end
        cut[place] = slice(start, stop, step)
        shape[place] = len(range(*cut[place].indices(shape[place])))

    def compute() -> Values | None:
        values = call[0].values
        return None if values is None else values[tuple(cut)]

    return [tensor_of(shape, call[0].dtype, compute)], 0.0


def _split(call: Call) -> Result:
    """Follow a cut along one axis into given sizes, or into equal parts, the last one smaller."""
    shape = list(call.shape())
    axis = axis_of(call.attribute("axis", 0), len(shape))
    if call.has(1):
        sizes = call.integers(1)
    else:
        count = call.attribute("num_outputs", len(call.node.outputs))
        step = -(-shape[axis] // count)
        sizes = [min(step, shape[axis] - i * step) for i in range(count)]
    if sum(sizes) != shape[axis] or len(sizes) != len(call.node.outputs):
        raise ValueError("sizes")
    parts = [one_tensor([*shape[:axis], size, *shape[axis + 1 :]], call[0].dtype) for size in sizes]
    return [tensor for tensors, _ in parts for tensor in tensors], 0.0


def _reshaped(values: Values | None, shape: Sequence[int]) -> Values | None:
    """Return values in another shape, where they are known."""
    return None if values is None else values.reshape(tuple(shape))


LAYOUT_RULES: dict[str, Rule] = {
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Rules by operator."""
