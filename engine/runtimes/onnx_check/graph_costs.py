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
from collections.abc import Iterable, Mapping, Sequence

from hficma.errors import ArtifactError
from hficma.types import ArraySpec

from ..base import Graph
from .compute_rules import COMPUTE_RULES
from .layout_rules import LAYOUT_RULES
from .onnx_file import read_onnx
from .onnx_model import MOST_RANK, KnownTensor, Node, OnnxGraph, UnfitError
from .operation import Call, Shape

MOST_ELEMENTS = 1 << 26
"""Of one array, at the sizes that are looked at; the largest of the published model, for one
photo and a tile of recipes, has 2 million."""
MOST_WORK = 3e11
"""Multiply-adds of a graph at those sizes; torchvision's largest image encoder takes 1.3e11."""
SIZES = (
    {"G": 1, "B": 1, "M": 16, "T": 10, "S": 16, "W": 12, "N": 8, "P": 11},
    {"G": 2, "B": 3, "M": 5, "T": 7, "S": 9, "W": 4, "N": 6, "P": 8},
)
"""Dynamic sizes that are looked at: one photo with a tile of candidates, and no two sizes alike, so
that none can be taken for another."""

RULES = LAYOUT_RULES | COMPUTE_RULES
"""What is known of an operator's outputs, from what is known of its inputs."""


def check_graph(graph: Graph) -> None:
    """Compare a graph's ONNX file with the manifest's ports, and bound its memory and work.

    Args:
        graph: its file verified; nothing of it has been loaded.

    Raises:
        ArtifactError: no ONNX file, operators or tensors that exports do not have, other inputs
            or outputs than the graph's, or more memory or work than any export takes.
    """
    onnx_graph = read_onnx(graph.file)
    try:
        _check_ports(onnx_graph.inputs, graph.inputs, "input")
        _check_ports(onnx_graph.outputs, graph.outputs, "output")
        for sizes in SIZES:
            shapes = {name: _sized(port.shape, sizes) for name, port in graph.inputs.items()}
            output_shapes = check_sizes(onnx_graph, shapes)
            for name, port in graph.outputs.items():
                if output_shapes.get(name) != _sized(port.shape, sizes):
                    raise UnfitError(f"gives {name} in another shape than the manifest says")
    except UnfitError as error:
        raise ArtifactError(f"{graph.file}: {error}; refused") from error


def _check_ports(
    declared: Mapping[str, ArraySpec], ports: Mapping[str, ArraySpec], kind: str
) -> None:
    """Refuse inputs or outputs of other names, types or fixed sizes than the manifest has."""
    if declared.keys() != ports.keys():
        raise UnfitError(f"has other {kind}s than the manifest says")
    for name, port in ports.items():
        in_file = declared[name]
        sizes = zip(in_file.shape, port.shape, strict=False)
        if (
            in_file.dtype != port.dtype
            or len(in_file.shape) != len(port.shape)
            or any(isinstance(size, int) and size != expected for size, expected in sizes)
        ):
            raise UnfitError(f"has the {kind} {name[:80]!r} in another form than the manifest says")


def _sized(shape: Sequence[int | str], sizes: Mapping[str, int]) -> Shape:
    """Return a shape with its letters replaced by sizes."""
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
    known: dict[str, KnownTensor] = dict(graph.constants)
    for name, port in graph.inputs.items():
        known[name] = KnownTensor(shapes[name], port.dtype, None)
    work = 0.0
    for node in _in_order(graph.nodes, known):
        # A rule indexes, divides and unpacks as if its inputs were those of the operator: whatever
        # Python raises where they are not means that the file is wrong.
        try:
            inputs = [known[name] if name else None for name in node.inputs]
            outputs, cost = RULES[node.operator](Call(node, inputs))
        except (KeyError, IndexError, ValueError, TypeError, ZeroDivisionError) as error:
            if isinstance(error, UnfitError):
                raise
            raise UnfitError(f"has a {node.operator} that does not fit its inputs") from error
        for name, tensor in zip(node.outputs, outputs, strict=False):
            if len(tensor.shape) > MOST_RANK or math.prod(tensor.shape) > MOST_ELEMENTS:
                raise UnfitError(f"makes an array of shape {tensor.shape} by {node.operator}")
            # Runtimes differ in which of two arrays of one name a later node reads.
            if name in known:
                raise UnfitError(f"makes {name[:80]!r} twice")
            if name:
                known[name] = tensor
        # Writing the outputs counts too: operators that only move arrays cost nothing else.
        work += cost + sum(math.prod(tensor.shape) for tensor in outputs)
        if work > MOST_WORK:
            raise UnfitError(f"takes over {MOST_WORK:.0e} multiply-adds")
    return {name: known[name].shape for name in graph.outputs if name in known}


def _in_order(nodes: Sequence[Node], known: Iterable[str]) -> list[Node]:
    """Put nodes behind those that they read: quantisers write theirs at the end of a file."""
    # Kahn's algorithm: a node is ready when the last array that it lacks has been made.
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
