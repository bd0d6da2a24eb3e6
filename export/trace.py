"""Traces one graph of the model into one ONNX file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.onnx.utils import register_custom_op_symbolic

from hficma.errors import MissingDependencyError
from hficma.model.graphs import Branch
from hficma.types import ArraySpec, ArraySpecs

OPSET = 20

_EXAMPLE_SIZES = {"B": 2, "M": 3, "S": 4, "W": 5, "T": 6, "N": 7, "P": 8, "G": 2}
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
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError("onnx", "train", "hficma export") from error
    register_custom_op_symbolic("aten::mT", _transpose_last, OPSET)
    register_custom_op_symbolic("aten::addcmul", _add_product, OPSET)
    with torch.no_grad(), _constant_positions(branch, examples):
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
    # The tracer's file is right but for these, which runtimes and quantisers trip over.
    model = onnx.load(path)
    _inline_shared_weights(model.graph)
    _mend_casts(model.graph)
    _drop_valid_padding(model.graph)
    _select_before_bias(model.graph)
    _name_outputs(model.graph, branch.outputs)
    onnx.save(model, path)


@contextlib.contextmanager
def _constant_positions(branch: Branch, examples: tuple[torch.Tensor, ...]) -> Iterator[None]:
    """Let vision transformers add their positions as a constant within the block.

    The networks of `transformers` stretch what they learnt for photos of one size to the size at
    hand: always the same in a graph, but traced, it would be worked out at every run, by operators
    that ONNX has not.
    """
    modules = [layer for layer in branch.modules() if hasattr(layer, "interpolate_pos_encoding")]
    positions: dict[torch.nn.Module, torch.Tensor] = {}

    def note(layer: Any, *arguments: Any, **options: Any) -> torch.Tensor:
        positions[layer] = type(layer).interpolate_pos_encoding(layer, *arguments, **options)
        return positions[layer]

    def constant(layer: Any, *_: Any, **__: Any) -> torch.Tensor:
        return positions[layer]

    try:
        for function in (note, constant):
            for layer in modules:
                # On the object, where it comes before the class's own.
                layer.__dict__["interpolate_pos_encoding"] = partial(function, layer)
            if function is note and modules:
                branch(*examples)
        yield
    finally:
        for layer in modules:
            layer.__dict__.pop("interpolate_pos_encoding", None)


def _example(port: ArraySpec) -> torch.Tensor:
    """Return an array of the type and shape of an input."""
    shape = [_EXAMPLE_SIZES[size] if isinstance(size, str) else size for size in port.shape]
    # Ones are valid as ids, as lengths, as pixels and as tokens.
    return torch.ones(shape, dtype=getattr(torch, port.dtype))


def _transpose_last(graph: Any, values: Any) -> Any:
    """Export `Tensor.mT`, which the exporter does not know."""
    rank = values.type().dim()
    return graph.op("Transpose", values, perm_i=[*range(rank - 2), rank - 1, rank - 2])


def _add_product(graph: Any, values: Any, left: Any, right: Any, scale: Any) -> Any:
    """Export `addcmul` without the exporter's product with a scale of 1, a pass over all of it."""
    return graph.op("Add", values, graph.op("Mul", left, right))


def _inline_shared_weights(graph: Any) -> None:
    """Let layers with equal weights read them directly.

    The exporter stores equal tensors once and passes copies through Identity nodes, behind
    which quantisers and TensorRT no longer see a constant.
    """
    constants = {tensor.name for tensor in graph.initializer}
    shared = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Identity" and node.input[0] in constants
    }
    others = [node for node in graph.node if not set(node.output) & shared.keys()]
    for node in others:
        node.input[:] = [shared.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(others)


def _mend_casts(graph: Any) -> None:
    """Mend casts to bfloat16 that come out with torch's number of that type, 15.

    In ONNX that is complex128, which no graph here has.
    """
    complex128, bfloat16 = 15, 16
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == complex128:
                attribute.i = bfloat16


def _select_before_bias(graph: Any) -> None:
    """Add the bias of a layer with one output behind the selection of that output.

        MatMul (..., 1) -> Add [1] -> Gather (...)     becomes     MatMul -> Gather -> Add

    The same numbers: but compiling cross graphs, TensorRT-RTX 1.x gives the sum in the first order
    three strides for its four axes and ends in an internal error, unless the bias is 0.
    """
    from onnx import helper

    biases = {tensor.name for tensor in graph.initializer if list(tensor.dims) == [1]}
    adds = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "Add" and node.input[0] in biases
    }
    nodes = []
    for node in graph.node:
        add = adds.get(node.input[0]) if node.op_type == "Gather" else None
        if add is None:
            nodes.append(node)
            continue
        assert sum(add.output[0] in other.input for other in graph.node) == 1
        nodes.remove(add)
        (bias, product), (result,) = add.input, node.output
        node.input[0], node.output[0] = product, f"{result}_without_bias"
        nodes += [node, helper.make_node("Add", [node.output[0], bias], [result], add.name)]
    del graph.node[:]
    graph.node.extend(nodes)


def _drop_valid_padding(graph: Any) -> None:
    """Leave out the padding `VALID`: none, which is the default, in a form of its own."""
    for node in graph.node:
        for attribute in list(node.attribute):
            if attribute.name == "auto_pad" and attribute.s == b"VALID":
                node.attribute.remove(attribute)


def _name_outputs(graph: Any, ports: ArraySpecs) -> None:
    """Give outputs the sizes of their ports; the tracer's guesses can be names of its own."""
    for output in graph.output:
        shape = output.type.tensor_type.shape
        del shape.dim[:]
        for size in ports[output.name].shape:
            dimension = shape.dim.add()
            if isinstance(size, str):
                dimension.dim_param = size
            else:
                dimension.dim_value = size
    del graph.value_info[:]  # sizes of the example, not of every input
