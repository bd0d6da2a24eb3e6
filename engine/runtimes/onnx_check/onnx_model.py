"""What an ONNX file of this program's exports consists of; anything else is refused.

These are the operators, types and sizes that exports of every preset use, and the classes that a
file is read into. `onnx_file` reads them, `graph_costs` works out what they ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from hficma.types import Array, ArraySpec

OPSET = 20
"""The version of ONNX's own operators that exports use."""
_WINDOW = "dilations pads strides kernel_shape"
OPERATORS = {
    operator: frozenset(attributes.split())
    for operator, attributes in {
        "Add": "",
        "AveragePool": f"{_WINDOW} ceil_mode count_include_pad",
        "BatchNormalization": "epsilon momentum training_mode",
        "Cast": "to",
        "Clip": "",
        "Concat": "axis",
        "Constant": "value",
        "ConstantOfShape": "value",
        "Conv": f"{_WINDOW} group",
        "DequantizeLinear": "axis",
        "Div": "",
        "Equal": "",
        "Exp": "",
        "Expand": "",
        "Flatten": "axis",
        "GRU": "hidden_size linear_before_reset",
        "Gather": "axis",
        "GatherElements": "axis",
        "Gelu": "approximate",
        "Gemm": "alpha beta transA transB",
        "GlobalAveragePool": "",
        "Greater": "",
        "GreaterOrEqual": "",
        "HardSigmoid": "alpha beta",
        "HardSwish": "",
        "LSTM": "hidden_size",
        "LayerNormalization": "axis epsilon",
        "Less": "",
        "MatMul": "",
        "MaxPool": f"{_WINDOW} ceil_mode",
        "Mod": "fmod",
        "Mul": "",
        "Neg": "",
        "Pad": "mode",
        "Pow": "",
        "QuantizeLinear": "axis",
        "Range": "",
        "ReduceL2": "keepdims",
        "ReduceMean": "keepdims",
        "ReduceSum": "keepdims",
        "Relu": "",
        "Reshape": "allowzero",
        "Shape": "",
        "Sigmoid": "",
        "Size": "",
        "Slice": "",
        "Softmax": "axis",
        "Split": "axis",
        "Squeeze": "",
        "Sub": "",
        "Tanh": "",
        "Tile": "",
        "Transpose": "perm",
        "Unsqueeze": "",
        "Where": "",
    }.items()
}
"""Operators of the exports of all presets, of torchvision's image encoders and of int8, with the
attributes that they have there."""
MOST_NODES = 20_000
"""A graph's; the deepest image encoders have about 1,500."""
MOST_RANK = 8
"""Axes of a tensor; attention has six."""
SMALL = 4096
"""Elements of a tensor whose values are read: enough for shapes, axes and indices."""

Values: TypeAlias = Array
"""What a tensor holds."""


class UnfitError(ValueError):
    """The file is ONNX, but not what an export writes."""


@dataclass(frozen=True)
class KnownTensor:
    """What is known of a tensor before the graph runs: of a constant, or of a node's result."""

    shape: tuple[int, ...]
    """Its sizes."""
    dtype: str
    """A name of `DTYPES`."""
    values: Values | None
    """What it holds, where that is at most `SMALL` elements of a type that numpy has, and known."""


@dataclass(frozen=True)
class Node:
    """One operation."""

    operator: str
    """One of `OPERATORS`."""
    inputs: tuple[str, ...]
    """Names of tensors; empty for one left out."""
    outputs: tuple[str, ...]
    """Names of tensors; empty for one left out."""
    attributes: Mapping[str, Any]
    """Numbers, lists of numbers, bytes or a `KnownTensor`, by name."""


@dataclass(frozen=True)
class OnnxGraph:
    """The graph of an ONNX file."""

    inputs: Mapping[str, ArraySpec]
    """By name, constants not among them."""
    outputs: Mapping[str, ArraySpec]
    """By name."""
    constants: Mapping[str, KnownTensor]
    """Initialisers, by name."""
    nodes: tuple[Node, ...]
    """In the file's order."""


DTYPES = {
    1: ("float32", 4), 2: ("uint8", 1), 3: ("int8", 1), 4: ("uint16", 2), 5: ("int16", 2),
    6: ("int32", 4), 7: ("int64", 8), 9: ("bool", 1), 10: ("float16", 2), 11: ("float64", 8),
    16: ("bfloat16", 2),
}  # fmt: skip
"""ONNX's number of a type: its name, and the bytes of an element."""
