"""One operation of a graph with what is known of its inputs, and what a rule returns for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .onnx_model import MOST_RANK, SMALL, KnownTensor, Node, UnfitError, Values

Shape = tuple[int, ...]


class Call:
    """A node with what is known of its inputs.

    Args:
        node: the operation.
        inputs: None for one left out.
    """

    def __init__(self, node: Node, inputs: Sequence[KnownTensor | None]) -> None:
        self.node = node
        self.inputs = inputs

    def __getitem__(self, position: int) -> KnownTensor:
        tensor = self.inputs[position]
        if tensor is None:
            raise IndexError(position)
        return tensor

    def shape(self, position: int = 0) -> Shape:
        """Return the shape of an input."""
        return self[position].shape

    def has(self, position: int) -> bool:
        """Return whether the node has an input at a position."""
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
        all_values = [tensor.values for tensor in self.inputs if tensor is not None]
        known = [values for values in all_values if values is not None]
        return known if len(known) == len(all_values) else None


Result = tuple[list[KnownTensor], float]
"""What an operation gives, and the multiply-adds that it takes beside writing that."""
Rule = Callable[[Call], Result]
"""Raises what Python raises where inputs do not fit; `check_sizes` says of which operator."""


def tensor_of(
    shape: Sequence[int], dtype: str, compute: Callable[[], Values | None]
) -> KnownTensor:
    """Return a tensor of a shape, with its values where they are few and can be computed."""
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
    return KnownTensor(shape, dtype, values)


def one_tensor(shape: Sequence[int], dtype: str, work: float = 0.0) -> Result:
    """Return the result of an operation with one output that no shape is made of."""
    return [tensor_of(shape, dtype, lambda: None)], work


def axis_of(axis: int, rank: int) -> int:
    """Count an axis from the front.

    Raises:
        ValueError: an array of `rank` axes has none of that number.
    """
    if not -rank <= axis < rank:
        raise ValueError("axis")
    return axis % rank
