"""What every runtime offers: load a compiled graph, run it on named arrays, say what it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, TypeAlias

import numpy as np

from hficma.types import Array, ArraySpec

Arrays: TypeAlias = Mapping[str, Array]
"""The inputs or outputs of a graph by the names of its ports, or the items that they come from."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A compiled branch of a bundle, in one precision."""

    name: str
    """`image`, `cross_tables`, ..."""
    precision: str
    """`fp32`, `fp16`, `int8` or `bf16`."""
    file: Path
    """Its ONNX file, already verified."""
    sha256: str
    """Of the file."""
    bundle: Path
    """The directory it belongs to."""
    model_id: str
    """Of the model it was exported from; names the folder of what is cached for it."""
    inputs: Mapping[str, ArraySpec]
    """By name."""
    outputs: Mapping[str, ArraySpec]
    """By name, in the graph's order."""
    longest: Mapping[str, int]
    """What the letters of a recipe's axes may reach: T ingredients, N sentences, W words each."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What really runs a graph, as the runtime itself reports it."""

    runtime: str
    """`onnxruntime`, `openvino`, `tensorrt` or `torch`."""
    version: str
    """Of the runtime's package."""
    provider: str
    """What executes inside the runtime, such as `CPUExecutionProvider`."""
    device: str
    """`cpu` or `cuda:N`."""
    precision: str
    """What the graph computes in."""


class Runtime(ABC):
    """A loaded graph. Safe to run from several threads."""

    name: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    """Those it can run."""

    @classmethod
    @abstractmethod
    def load(cls, graph: Graph, *, device: str = "cpu", threads: int | None = None) -> Self:
        """Load a graph and warm it up.

        Args:
            graph: what to load.
            device: `cpu` or `cuda[:N]`.
            threads: cores to use; None takes all.

        Raises:
            MissingDependencyError: the runtime's package is not installed.
            ArtifactError: the runtime cannot execute this graph.
            InputError: the runtime has no such device.
        """

    @abstractmethod
    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Outputs by name for inputs by name, as the graph's ports say."""

    @abstractmethod
    def describe(self) -> Execution:
        """What runs, believed from the session rather than from what was asked for."""


def prepared(graph: Graph, inputs: Arrays) -> dict[str, Array]:
    """Inputs in the dtypes and memory order that the graph reads.

    Raises:
        ValueError: an input is missing or has a shape the graph does not take.
    """
    ready = {}
    for name, port in graph.inputs.items():
        if name not in inputs:
            raise ValueError(f"graph {graph.name}: input {name} is missing")
        array = np.ascontiguousarray(inputs[name], dtype=port.dtype)
        fixed = zip(array.shape, port.shape, strict=False)
        if array.ndim != len(port.shape) or any(
            isinstance(wanted, int) and size != wanted for size, wanted in fixed
        ):
            raise ValueError(
                f"graph {graph.name}: input {name} has shape {array.shape}, not {port.shape}"
            )
        ready[name] = array
    return ready


def example(graph: Graph, sizes: Mapping[str, int]) -> dict[str, Array]:
    """Inputs of the given dynamic sizes, for warm-up and timing: ones, valid for every port."""
    return {
        name: np.ones(
            [sizes.get(size, 1) if isinstance(size, str) else size for size in port.shape],
            dtype=port.dtype,
        )
        for name, port in graph.inputs.items()
    }
