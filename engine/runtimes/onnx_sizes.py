"""Works out what a graph asks for in memory and work, before a runtime computes any of it.

A file of a kilobyte can ask for terabytes: a tensor filled or repeated to a shape of 10¹², a
product of two such. So shapes are followed through the graph for one set of sizes of its inputs,
and with them the few integers that shapes are made of. A shape must follow from the inputs'
shapes and from constants: where it depends on what is in an array, the graph is refused, since
nothing here could bound it. Exports never do that.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hficma.errors import ArtifactError

from .base import Graph, Port
from .onnx_file import (
    DTYPES,
    MOST_RANK,
    SMALL,
    Node,
    OnnxGraph,
    OnnxPort,
    Tensor,
    UnfitError,
    Values,
    read_onnx,
)

MOST_ELEMENTS = 1 << 26
"""Of one array, at the sizes that are looked at; the largest of the published model, for one
photo and a tile of recipes, has 2 million."""
MOST_WORK = 3e11
"""Multiply-adds of a graph at those sizes; the largest of torchvision's trunks takes 1.3e11."""
SIZES = (
    {"G": 1, "B": 1, "M": 16, "T": 10, "S": 16, "W": 12, "N": 8},
    {"G": 2, "B": 3, "M": 5, "T": 7, "S": 9, "W": 4, "N": 6},
)
"""Sizes that are looked at: one photo with a tile of candidates, and no size like another."""

Shape = tuple[int, ...]


def check_graph(graph: Graph) -> None:
    """Hold a graph's ONNX file to its ports, and bound what it takes.

    Args:
        graph: its file verified; nothing of it has been loaded.

    Raises:
        ArtifactError: no ONNX file, operators or tensors that exports do not have, other inputs
            or outputs than the graph's, or more memory or work than any export takes.
    """
    found = read_onnx(graph.file)
    try:
        _check_ports(found.inputs, graph.inputs, "input")
        _check_ports(found.outputs, graph.outputs, "output")
        for sizes in SIZES:
            shapes = {name: _sized(port.shape, sizes) for name, port in graph.inputs.items()}
            made = check_sizes(found, shapes)
            for name, port in graph.outputs.items():
                if made.get(name) != _sized(port.shape, sizes):
                    raise UnfitError(f"gives {name} in another shape than the manifest says")
    except UnfitError as error:
        raise ArtifactError(f"{graph.file}: {error}; refused") from error


def _check_ports(declared: Mapping[str, OnnxPort], ports: Mapping[str, Port], kind: str) -> None:
    if declared.keys() != ports.keys():
        raise UnfitError(f"has other {kind}s than the manifest says")
    for name, port in ports.items():
        given = declared[name]
        sizes = zip(given.shape, port.shape, strict=False)
        if (
            given.dtype != port.dtype
            or len(given.shape) != len(port.shape)
            or any(isinstance(size, int) and size != wanted for size, wanted in sizes)
        ):
            raise UnfitError(f"has the {kind} {name[:80]!r} in another form than the manifest says")


def _sized(shape: Sequence[int | str], sizes: Mapping[str, int]) -> Shape:
    return tuple(sizes[size] if isinstance(size, str) else size for size in shape)


def check_sizes(graph: OnnxGraph, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Follow the shapes of a graph's arrays, and bound them.

    Args:
        graph: to follow.
        shapes: of its inputs.

    Returns:
        shapes of its outputs.

    Raises:
        UnfitError: an array or the work is too large, a shape depends on an array's content,
            or an operator does not fit its inputs.
    """
    known: dict[str, Tensor] = dict(graph.constants)
    for name, port in graph.inputs.items():
        known[name] = Tensor(shapes[name], port.dtype, None)
    work = 0.0
    for node in _in_order(graph.nodes, known):
        try:
            inputs = [known[name] if name else None for name in node.inputs]
            outputs, cost = _FOLLOW[node.operator](_Call(node, inputs))
        except (KeyError, IndexError, ValueError, TypeError, ZeroDivisionError) as error:
            if isinstance(error, UnfitError):
                raise
            raise UnfitError(f"has a {node.operator} that does not fit its inputs") from error
        for name, tensor in zip(node.outputs, outputs, strict=False):
            if len(tensor.shape) > MOST_RANK or math.prod(tensor.shape) > MOST_ELEMENTS:
                raise UnfitError(f"makes an array of shape {tensor.shape} by {node.operator}")
            if name in known:
                raise UnfitError(f"makes {name[:80]!r} twice")
            if name:
                known[name] = tensor
        work += cost + sum(math.prod(tensor.shape) for tensor in outputs)
        if work > MOST_WORK:
            raise UnfitError(f"takes over {MOST_WORK:.0e} multiply-adds")
    return {name: known[name].shape for name in graph.outputs if name in known}


def _in_order(nodes: Sequence[Node], known: Iterable[str]) -> list[Node]:
    """Put nodes behind those that they read: quantisers write theirs at the end of a file."""
    ready = set(known)
    waiting: dict[str, list[int]] = {}
    missing = []
    for number, node in enumerate(nodes):
        lacking = {name for name in node.inputs if name and name not in ready}
        missing.append(len(lacking))
        for name in lacking:
            waiting.setdefault(name, []).append(number)
    queue = deque(number for number, count in enumerate(missing) if count == 0)
    order: list[Node] = []
    while queue:
        node = nodes[queue.popleft()]
        order.append(node)
        for name in set(node.outputs):
            for number in waiting.pop(name, ()):
                missing[number] -= 1
                if missing[number] == 0:
                    queue.append(number)
    if len(order) < len(nodes):
        raise UnfitError("has nodes that read each other, or what is nowhere")
    return order


class _Call:
    """A node with what is known of its inputs.

    Args:
        node: the operation.
        inputs: None for one left out.
    """

    def __init__(self, node: Node, inputs: Sequence[Tensor | None]) -> None:
        self.node = node
        self.inputs = inputs

    def __getitem__(self, position: int) -> Tensor:
        tensor = self.inputs[position]
        if tensor is None:
            raise IndexError(position)
        return tensor

    def shape(self, position: int = 0) -> Shape:
        """Return the shape of an input."""
        return self[position].shape

    def has(self, position: int) -> bool:
        """Return whether an input is given."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def integers(self, position: int) -> list[int]:
        """Return the values of an input that shapes are made of."""
        values = self[position].values
        if values is None:
            raise UnfitError(f"has a {self.node.operator} whose shape depends on what it reads")
        return [int(value) for value in values.reshape(-1)]

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute."""
        return self.node.attributes.get(name, default)

    def values(self) -> list[Values] | None:
        """Return the values of all inputs, or None where one is unknown."""
        found = [tensor.values for tensor in self.inputs if tensor is not None]
        return None if any(one is None for one in found) else [v for v in found if v is not None]


_Result = tuple[list[Tensor], float]
_Follow = Callable[[_Call], _Result]


def _of(shape: Sequence[int], dtype: str, compute: Callable[[], Values | None]) -> Tensor:
    """A tensor of a shape, with its values where they are few and can be computed."""
    shape = tuple(int(size) for size in shape)
    if any(size < 0 for size in shape):
        raise ValueError("negative size")
    values = None
    if math.prod(shape) <= SMALL and len(shape) <= MOST_RANK and dtype != "bfloat16":
        with np.errstate(all="ignore"):
            values = compute()
    if values is not None:
        values = np.asarray(values).astype(dtype, copy=False)
        if values.shape != shape:
            raise ValueError("shape")
    return Tensor(shape, dtype, values)


def _alone(shape: Sequence[int], dtype: str, work: float = 0.0) -> _Result:
    return [_of(shape, dtype, lambda: None)], work


def _same(call: _Call) -> _Result:
    return _alone(call.shape(), call[0].dtype)


def _elementwise(
    function: Callable[..., Any] | None, dtype: str = ""
) -> Callable[[_Call], _Result]:
    def follow(call: _Call) -> _Result:
        shape = np.broadcast_shapes(*(tensor.shape for tensor in call.inputs if tensor))

        def compute() -> Values | None:
            values = call.values()
            if values is None or function is None:
                return None
            result: Values = np.broadcast_to(function(*values), shape)
            return result

        return [_of(shape, dtype or call[-1].dtype, compute)], 0.0

    return follow


def _divide(left: Values, right: Values) -> Values | None:
    if np.issubdtype(left.dtype, np.integer):
        if not right.all():
            return None
        towards_zero: Values = np.sign(left) * np.sign(right) * (np.abs(left) // np.abs(right))
        return towards_zero
    quotient: Values = left / right
    return quotient


def _cast(call: _Call) -> _Result:
    dtype = DTYPES[call.attribute("to", 0)][0]
    return [_of(call.shape(), dtype, lambda: call[0].values)], 0.0


def _constant(call: _Call) -> _Result:
    return [call.node.attributes["value"]], 0.0


def _constant_of_shape(call: _Call) -> _Result:
    shape = call.integers(0)
    value = call.attribute("value", Tensor((1,), "float32", np.zeros(1, np.float32)))
    if math.prod(value.shape) != 1:
        raise ValueError("value")
    fill = value.values

    def compute() -> Values | None:
        return None if fill is None else np.full(shape, fill.reshape(-1)[0])

    return [_of(shape, value.dtype, compute)], 0.0


def _range(call: _Call) -> _Result:
    start, limit, step = (call[i].values for i in range(3))
    if start is None or limit is None or step is None:
        raise UnfitError("has a Range whose length depends on what it reads")
    first, last, by = (one.reshape(-1)[0].item() for one in (start, limit, step))
    count = max(0, math.ceil((last - first) / by))
    return [_of((count,), call[0].dtype, lambda: np.arange(count) * by + first)], 0.0


def _expand(call: _Call) -> _Result:
    target = tuple(call.integers(1))
    if any(size < 0 for size in target):
        raise ValueError("negative size")
    shape = np.broadcast_shapes(call.shape(), target)

    def compute() -> Values | None:
        values = call[0].values
        return None if values is None else np.broadcast_to(values, shape)

    return [_of(shape, call[0].dtype, compute)], 0.0


def _shape(call: _Call) -> _Result:
    shape = call.shape()[call.attribute("start", 0) : call.attribute("end", None)]
    return [_of((len(shape),), "int64", lambda: np.array(shape, np.int64))], 0.0


def _gather(call: _Call) -> _Result:
    axis = _axis(call.attribute("axis", 0), len(call.shape()))
    shape = call.shape()[:axis] + call.shape(1) + call.shape()[axis + 1 :]

    def compute() -> Values | None:
        values = call.values()
        return None if values is None else np.take(values[0], values[1].astype(np.int64), axis)

    return [_of(shape, call[0].dtype, compute)], 0.0


def _gather_elements(call: _Call) -> _Result:
    return _alone(call.shape(1), call[0].dtype)


def _concat(call: _Call) -> _Result:
    shapes = [tensor.shape for tensor in call.inputs if tensor]
    axis = _axis(call.attribute("axis", 0), len(shapes[0]))
    for shape in shapes:
        if shape[:axis] + shape[axis + 1 :] != shapes[0][:axis] + shapes[0][axis + 1 :]:
            raise ValueError("shapes")
    size = sum(shape[axis] for shape in shapes)

    def compute() -> Values | None:
        values = call.values()
        return None if values is None else np.concatenate(values, axis)

    joined = (*shapes[0][:axis], size, *shapes[0][axis + 1 :])
    return [_of(joined, call[0].dtype, compute)], 0.0


def _reshape(call: _Call) -> _Result:
    target, given = call.integers(1), call.shape()
    if not call.attribute("allowzero", 0):
        target = [given[i] if size == 0 else size for i, size in enumerate(target)]
    if target.count(-1) == 1:
        rest = math.prod(size for size in target if size != -1)
        target[target.index(-1)] = math.prod(given) // rest if rest else 0
    if math.prod(target) != math.prod(given):
        raise ValueError("sizes")
    return [_of(target, call[0].dtype, lambda: _reshaped(call[0].values, target))], 0.0


def _squeeze(call: _Call) -> _Result:
    rank = len(call.shape())
    if call.has(1):
        axes = {_axis(axis, rank) for axis in call.integers(1)}
    else:
        axes = {axis for axis, size in enumerate(call.shape()) if size == 1}
    if any(call.shape()[axis] != 1 for axis in axes):
        raise ValueError("axes")
    shape = [size for axis, size in enumerate(call.shape()) if axis not in axes]
    return [_of(shape, call[0].dtype, lambda: _reshaped(call[0].values, shape))], 0.0


def _unsqueeze(call: _Call) -> _Result:
    added = call.integers(1)
    rank = len(call.shape()) + len(added)
    axes = {_axis(axis, rank) for axis in added}
    if len(axes) != len(added):
        raise ValueError("axes")
    sizes = iter(call.shape())
    shape = [1 if axis in axes else next(sizes) for axis in range(rank)]
    return [_of(shape, call[0].dtype, lambda: _reshaped(call[0].values, shape))], 0.0


def _transpose(call: _Call) -> _Result:
    rank = len(call.shape())
    order = call.attribute("perm", tuple(reversed(range(rank))))
    if sorted(order) != list(range(rank)):
        raise ValueError("perm")
    return _alone([call.shape()[axis] for axis in order], call[0].dtype)


def _slice(call: _Call) -> _Result:
    shape = list(call.shape())
    starts, ends = call.integers(1), call.integers(2)
    axes = call.integers(3) if call.has(3) else list(range(len(starts)))
    steps = call.integers(4) if call.has(4) else [1] * len(starts)
    cut = [slice(None)] * len(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        place = _axis(axis, len(shape))
        # ONNX writes "to the end" of a step backwards as a number below every position.
        stop = None if step < 0 and end < -shape[place] else end
        cut[place] = slice(start, stop, step)
        shape[place] = len(range(*cut[place].indices(shape[place])))

    def compute() -> Values | None:
        values = call[0].values
        return None if values is None else values[tuple(cut)]

    return [_of(shape, call[0].dtype, compute)], 0.0


def _split(call: _Call) -> _Result:
    shape = list(call.shape())
    axis = _axis(call.attribute("axis", 0), len(shape))
    if call.has(1):
        sizes = call.integers(1)
    else:
        count = call.attribute("num_outputs", len(call.node.outputs))
        step = -(-shape[axis] // count)
        sizes = [min(step, shape[axis] - i * step) for i in range(count)]
    if sum(sizes) != shape[axis] or len(sizes) != len(call.node.outputs):
        raise ValueError("sizes")
    parts = [_alone([*shape[:axis], size, *shape[axis + 1 :]], call[0].dtype) for size in sizes]
    return [tensor for tensors, _ in parts for tensor in tensors], 0.0


def _reduce(call: _Call) -> _Result:
    rank = len(call.shape())
    axes = call.integers(1) if call.has(1) else list(range(rank))
    gone = {_axis(axis, rank) for axis in axes} or set(range(rank))
    keep = call.attribute("keepdims", 1)
    shape = [
        1 if i in gone else size for i, size in enumerate(call.shape()) if keep or i not in gone
    ]
    return _alone(shape, call[0].dtype, math.prod(call.shape()))


def _matmul(call: _Call) -> _Result:
    left, right = call.shape(0), call.shape(1)
    vector = len(right) == 1  # a matrix times a vector, as a column that is dropped again
    if vector:
        right = (*right, 1)
    if len(left) < 2 or left[-1] != right[-2]:
        raise ValueError("shapes")
    shape = (*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1])
    work = float(math.prod(shape) * left[-1])
    return _alone(shape[:-1] if vector else shape, call[0].dtype, work)


def _gemm(call: _Call) -> _Result:
    (rows, inner), (other, columns) = call.shape(0), call.shape(1)
    if call.attribute("transA", 0):
        rows, inner = inner, rows
    if call.attribute("transB", 0):
        other, columns = columns, other
    if inner != other:
        raise ValueError("shapes")
    return _alone((rows, columns), call[0].dtype, rows * inner * columns)


def _conv(call: _Call) -> _Result:
    batch, channels, *_ = call.shape()
    filters, own, *kernel = call.shape(1)
    groups = call.attribute("group", 1)
    if own * groups != channels or filters % groups:
        raise ValueError("channels")
    shape = (batch, filters, *_windows(call, kernel))
    return _alone(shape, call[0].dtype, math.prod(shape) * own * math.prod(kernel))


def _pool(call: _Call) -> _Result:
    kernel = call.attribute("kernel_shape", ())
    shape = (*call.shape()[:2], *_windows(call, kernel))
    return _alone(shape, call[0].dtype, math.prod(shape) * math.prod(kernel))


def _windows(call: _Call, kernel: Sequence[int]) -> list[int]:
    """Sizes of what windows of a kernel give over an input (B, C, ...)."""
    sizes = call.shape()[2:]
    count = len(sizes)
    if call.attribute("auto_pad", "NOTSET") != "NOTSET" or len(kernel) != count:
        raise ValueError("padding")
    pads = call.attribute("pads", (0,) * 2 * count)
    strides = call.attribute("strides", (1,) * count)
    dilations = call.attribute("dilations", (1,) * count)
    if len(pads) != 2 * count or min(pads) < 0 or min(*strides, *dilations, *kernel) < 1:
        raise ValueError("window")
    found = []
    for i, size in enumerate(sizes):
        padded = size + pads[i] + pads[count + i] - dilations[i] * (kernel[i] - 1) - 1
        # Padding is memory too: some kernels copy the input with it.
        if max(pads[i], pads[count + i], dilations[i] * kernel[i]) > 4 * MOST_WINDOW:
            raise UnfitError("has a window of an absurd size")
        steps = padded / strides[i]
        found.append((math.ceil(steps) if call.attribute("ceil_mode", 0) else int(steps // 1)) + 1)
    return found


MOST_WINDOW = 256
"""Pixels that a window may span, or its padding add: no photo here is larger."""


def _global_pool(call: _Call) -> _Result:
    batch, channels, *sizes = call.shape()
    return _alone((batch, channels, *(1 for _ in sizes)), call[0].dtype, math.prod(call.shape()))


def _recurrent(gates: int) -> _Follow:
    def follow(call: _Call) -> _Result:
        steps, batch, width = call.shape()
        directions, rows, inputs = call.shape(1)
        hidden = call.attribute("hidden_size", 0)
        if rows != gates * hidden or inputs != width or call.shape(2)[2] != hidden:
            raise ValueError("shapes")
        last = _alone((directions, batch, hidden), call[0].dtype)[0]
        every = _alone((steps, directions, batch, hidden), call[0].dtype)[0]
        cost = float(steps * directions * batch * rows * (width + hidden))
        return every + last + (last if gates == 4 else []), cost

    return follow


def _reshaped(values: Values | None, shape: Sequence[int]) -> Values | None:
    return None if values is None else values.reshape(tuple(shape))


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError("axis")
    return axis % rank


_FOLLOW: dict[str, _Follow] = {
    "Add": _elementwise(np.add),
    "AveragePool": _pool,
    "BatchNormalization": _same,
    "Cast": _cast,
    "Clip": _same,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "DequantizeLinear": lambda call: _alone(call.shape(), call[1].dtype),
    "Div": _elementwise(_divide),
    "Equal": _elementwise(np.equal, "bool"),
    "Expand": _expand,
    "GRU": _recurrent(3),
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Gelu": _same,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "GreaterOrEqual": _elementwise(np.greater_equal, "bool"),
    "HardSigmoid": _same,
    "HardSwish": _same,
    "LSTM": _recurrent(4),
    "LayerNormalization": _same,
    "Less": _elementwise(np.less, "bool"),
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Mul": _elementwise(np.multiply),
    "Pow": _elementwise(None),
    "QuantizeLinear": lambda call: _alone(call.shape(), call[2].dtype),
    "Range": _range,
    "ReduceL2": _reduce,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "Relu": _same,
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": _same,
    "Slice": _slice,
    "Softmax": _same,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract),
    "Tanh": _same,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _elementwise(np.where),
}
"""How each operator of `onnx_file.OPERATORS` turns what is known of its inputs into its outputs."""
