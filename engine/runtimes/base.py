"""What every runtime offers: load a compiled graph, run it on named arrays, report what it is.

A runtime is a library that executes ONNX graphs (or, for `torch`, the model that they came from).
The others are compared with it: by export, and by `selection`, which takes only those that agree.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias

import numpy as np

from hficma.types import Array, ArraySpec

if TYPE_CHECKING:
    from torch import Tensor

Arrays: TypeAlias = Mapping[str, Array]
"""Arrays by name: what a graph reads or gives, or the reference items that these come from."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A compiled branch of a bundle, in one precision: all that a runtime needs to load it."""

    name: str
    """`image`, `cross_tables`, ..."""
    precision: str
    """`fp32`, `fp16`, `int8` or `bf16`."""
    file: Path
    """Its ONNX file, already verified."""
    sha256: str
    """Of the file, in hexadecimal: the same graph has the same measurements and plans."""
    bundle: Path
    """The bundle's directory; only the torch runtime reads more of it than `file`."""
    model_id: str
    """Of the model it was exported from; names the folder of what is cached for it."""
    inputs: Mapping[str, ArraySpec]
    """By name."""
    outputs: Mapping[str, ArraySpec]
    """By name, in the graph's order."""
    longest: Mapping[str, int]
    """What the letters of a recipe's axes may reach: T ingredients, N sentences, W words each."""


@dataclass(frozen=True, kw_only=True)
class ExecutionReport:
    """What really runs a graph, as the runtime itself reports it.

    Not what `ExecutionOptions` say: a runtime may fall back to another device or precision
    without an error.
    """

    runtime: str
    """`onnxruntime`, `openvino`, `native`, `tensorrt` or `torch`."""
    version: str
    """Of the runtime's package."""
    provider: str
    """What executes inside the runtime, such as `CPUExecutionProvider`."""
    device: str
    """`cpu` or `cuda:N`."""
    precision: str
    """What the graph computes in."""


class Runtime(ABC):
    """A graph loaded into a runtime. Safe to run from several threads.

    Its session is freed with the last reference to the object.
    """

    name: ClassVar[str]
    """As in `registry.RUNTIMES`."""
    precisions: ClassVar[tuple[str, ...]]
    """Those it can run."""
    runs_any_in_fp32: ClassVar[bool] = False
    """Whether it can run any graph in fp32, whatever the precision of the graph's file."""
    rounds_weights: ClassVar[bool] = False
    """Whether it rounds a narrow graph's weights itself, where others read what export rounded."""

    @classmethod
    def why_not(cls, graph: Graph) -> str | None:
        """Return why a graph need not even be loaded; None where it may run."""
        if graph.precision not in cls.precisions:
            return f"cannot run {graph.precision}"
        return None

    @classmethod
    @abstractmethod
    def load(cls, graph: Graph, *, device: str = "cpu", threads: int | None = None) -> Self:
        """Load a graph and run it once, so that the first query pays for no allocation.

        Args:
            graph: what to load.
            device: `cpu` or `cuda[:N]`.
            threads: CPU cores to use; None leaves the number to the runtime.

        Raises:
            MissingDependencyError: the runtime's package is not installed.
            ArtifactError: the runtime cannot execute this graph.
            InputError: the runtime has no such device.
        """

    @abstractmethod
    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Run the graph.

        Args:
            inputs: an array for each of `graph.inputs`, in its shape; dtypes are converted.

        Returns:
            float32 arrays by the names of `graph.outputs`.

        Raises:
            ValueError: an input is missing or has a shape that the graph does not take.
            ArtifactError: the runtime fails.
        """

    def run_tensors(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the graph on torch tensors that are on its device, so that nothing leaves it.

        This form goes by way of the host; a runtime that shares memory with torch has its own.

        Args:
            inputs: a tensor for each of `graph.inputs`, in its shape and dtype.

        Returns:
            float32 tensors on the device of the first input, by the names of `graph.outputs`.
        """
        import torch

        device = next(iter(inputs.values())).device
        results = self.run({name: tensor.cpu().numpy() for name, tensor in inputs.items()})
        return {name: torch.from_numpy(array).to(device) for name, array in results.items()}

    @abstractmethod
    def describe(self) -> ExecutionReport:
        """Return what runs, read from the session rather than from the options."""


def prepare_inputs(graph: Graph, inputs: Arrays) -> dict[str, Array]:
    """Return inputs in the dtypes and memory order that a graph reads.

    Checked here, once for all runtimes: each of them says it in other words, or not at all.

    Args:
        graph: what will read them.
        inputs: by name; others than the graph's are left out.

    Raises:
        ValueError: an input is missing or has a shape that the graph does not take.
    """
    prepared = {}
    for name, port in graph.inputs.items():
        if name not in inputs:
            raise ValueError(f"graph {graph.name}: input {name} is missing")
        array = np.ascontiguousarray(inputs[name], dtype=port.dtype)
        # Axes that are letters may have any size; the others have one.
        fixed = zip(array.shape, port.shape, strict=False)
        if array.ndim != len(port.shape) or any(
            isinstance(expected, int) and size != expected for size, expected in fixed
        ):
            raise ValueError(
                f"graph {graph.name}: input {name} has shape {array.shape}, not {port.shape}"
            )
        prepared[name] = array
    return prepared


def example_inputs(graph: Graph, sizes: Mapping[str, int]) -> dict[str, Array]:
    """Return inputs for warm-up and timing: ones, which are a valid id, length or pixel everywhere.

    Args:
        graph: what will read them.
        sizes: of the dynamic axes by letter; 1 where a letter is missing.
    """
    return {
        name: np.ones(
            [sizes.get(size, 1) if isinstance(size, str) else size for size in port.shape],
            dtype=port.dtype,
        )
        for name, port in graph.inputs.items()
    }


def graph_letters(graph: Graph) -> set[str]:
    """Return the letters of the dynamic axes of a graph's inputs."""
    return {size for port in graph.inputs.values() for size in port.shape if isinstance(size, str)}


def letter_sizes(
    ports: Mapping[str, ArraySpec], shapes: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """Return the sizes of the dynamic axes of a graph's inputs, by letter.

    Args:
        ports: the inputs.
        shapes: of what they are given, by name.
    """
    return {
        letter: size
        for name, port in ports.items()
        for letter, size in zip(port.shape, shapes[name], strict=True)
        if isinstance(letter, str)
    }


def output_shapes(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Return the shapes of what a graph gives, for who takes memory for it beforehand.

    Args:
        graph: whose outputs' letters all stand in its inputs.
        shapes: of the inputs, by name.
    """
    sizes = letter_sizes(graph.inputs, shapes)
    return {
        name: [sizes[size] if isinstance(size, str) else size for size in port.shape]
        for name, port in graph.outputs.items()
    }
