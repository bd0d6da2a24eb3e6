"""Turns one graph into one ONNX file."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from hficma.errors import MissingDependencyError
from hficma.model.branches import Branch, Port

OPSET = 20

_EXAMPLE_SIZES = {"B": 2, "M": 3, "S": 4, "W": 5, "T": 6, "N": 7, "G": 2}
"""Sizes while tracing; only the letters reach the file."""


def trace(branch: Branch, path: Path) -> None:
    """Write a graph as ONNX, its weights inside the file.

    Tracing, not `dynamo=True`: the newer exporter gives equal graphs but reasons for about a
    minute over the four dynamic sizes of each cross graph, tracing takes a second.

    Args:
        branch: in evaluation mode, on the CPU.
        path: the file to write.

    Raises:
        MissingDependencyError: onnx is not installed.
    """
    examples = tuple(_example(port) for port in branch.inputs.values())
    ports = branch.inputs | branch.outputs
    dynamic = {
        name: {axis: size for axis, size in enumerate(port.shape) if isinstance(size, str)}
        for name, port in ports.items()
    }
    torch.onnx.register_custom_op_symbolic("aten::mT", _transpose_last, OPSET)
    with torch.no_grad(), _quiet():
        try:
            torch.onnx.export(
                branch,
                examples,
                str(path),
                dynamo=False,
                opset_version=OPSET,
                input_names=list(branch.inputs),
                output_names=list(branch.outputs),
                dynamic_axes=dynamic,
            )
        except ImportError as error:
            raise MissingDependencyError("onnx", "train", "hficma export") from error


def _example(port: Port) -> torch.Tensor:
    shape = [_EXAMPLE_SIZES[size] if isinstance(size, str) else size for size in port.shape]
    # Ones are valid as ids, as lengths, as pixels and as tokens.
    return torch.ones(shape, dtype=getattr(torch, port.dtype))


def _transpose_last(graph: Any, values: Any) -> Any:
    """`Tensor.mT`, which the exporter does not know."""
    rank = values.type().dim()
    return graph.op("Transpose", values, perm_i=[*range(rank - 2), rank - 1, rank - 2])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's deprecation notes and shape warnings off the user's terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
