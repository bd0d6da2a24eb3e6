"""Reads an ONNX file of a bundle, and refuses what no export of this program writes.

A bundle may come from anywhere, and a runtime does what a graph says: reads any file that a tensor
names, loops as often as it is told, calls operators of other libraries. So the file is read here
first, by protobuf's wire format (serving needs no `onnx` package), and only what exports consist of
passes: plain nodes of the operators of `onnx_model`, and tensors whose bytes are all in the file.
What the nodes ask for in memory and work is for `graph_costs`.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hficma.errors import ArtifactError
from hficma.types import ArraySpec, Floats

from .onnx_model import (
    DTYPES,
    MOST_NODES,
    MOST_RANK,
    OPERATORS,
    OPSET,
    SMALL,
    KnownTensor,
    Node,
    OnnxGraph,
    UnfitError,
    Values,
)
from .protobuf import BYTES, FIXED32, VARINT, read_fields, read_varint, signed

_FIELDS = {
    "model": {1: "ir_version", 2: "producer_name", 3: "producer_version", 4: "domain",
              5: "model_version", 6: "doc_string", 7: "graph", 8: "opset_import",
              14: "metadata"},
    "opset": {1: "domain", 2: "version"},
    "graph": {1: "node", 2: "name", 5: "tensor", 10: "doc_string", 11: "input", 12: "output",
              13: "value_info", 16: "metadata"},
    "node": {1: "input", 2: "output", 3: "name", 4: "op_type", 5: "attribute", 6: "doc_string",
             7: "domain", 9: "metadata"},
    "attribute": {1: "name", 2: "f", 3: "i", 4: "s", 5: "t", 7: "floats", 8: "ints",
                  13: "doc_string", 20: "type"},
    "tensor": {1: "dims", 2: "data_type", 4: "float_data", 5: "int32_data", 7: "int64_data",
               8: "name", 9: "raw_data", 12: "doc_string"},
    "port": {1: "name", 2: "type", 3: "doc_string", 4: "metadata"},
    "type": {1: "tensor_type", 6: "denotation"},
    "tensor_type": {1: "elem_type", 2: "shape"},
    "shape": {1: "dim"},
    "dim": {1: "dim_value", 2: "dim_param", 3: "denotation"},
}  # fmt: skip
"""Fields of onnx.proto3 that exports use, by message: number to name. Others are refused, among
them functions, sub-graphs, sparse tensors and the names of other files."""
_REPEATED = frozenset(
    """opset_import metadata node tensor input output value_info attribute dims dim floats ints
    float_data int32_data int64_data""".split()
)
"""Fields that may stand in a message several times."""
_REFUSED = {
    ("model", 20): "has training steps",
    ("model", 25): "defines functions of its own",
    ("graph", 15): "has sparse tensors",
    ("attribute", 6): "has a graph inside a node",
    ("attribute", 11): "has a graph inside a node",
    ("tensor", 13): "reads weights from another file",
    ("tensor", 14): "reads weights from another file",
}
"""What to say of fields that a stranger's file is likely to have, by message and number."""
_ATTRIBUTE_KINDS = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints"}
"""The field that holds an attribute's value, by ONNX's number of its type."""

_Message = dict[str, list[tuple[int, int, int]]]
"""Of each field by name: wire type, then the value twice (varint) or where its bytes lie."""


def read_onnx(file: Path) -> OnnxGraph:
    """Read the graph of an ONNX file.

    Args:
        file: of a bundle, its hash already compared.

    Raises:
        ArtifactError: no ONNX file, or one that holds what exports do not.
    """
    try:
        with _reader(file) as reader:
            return reader.graph()
    except UnfitError as error:
        raise ArtifactError(f"{file}: {error}; refused") from error
    except (OSError, ValueError, IndexError, OverflowError) as error:
        raise ArtifactError(f"{file}: is no ONNX file ({error})") from error


def read_weights(file: Path) -> dict[str, Floats]:
    """Read the float32 constants of an ONNX file that `read_onnx` has passed.

    Args:
        file: of a bundle, its hash already compared.

    Raises:
        ArtifactError: no ONNX file, or one that holds what exports do not.
    """
    try:
        with _reader(file) as reader:
            return dict(reader.weights())
    except (UnfitError, OSError, ValueError, IndexError, OverflowError) as error:
        raise ArtifactError(f"{file}: its weights cannot be read ({error})") from error


@contextmanager
def _reader(file: Path) -> Iterator[_OnnxReader]:
    """Open a file, mapped while it is read."""
    with (
        file.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        yield _OnnxReader(content)


class _OnnxReader:
    """Reads messages out of a file's bytes.

    Args:
        content: the whole file.
    """

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content

    def graph(self) -> OnnxGraph:
        """Return the model's graph."""
        model = self._message("model", 0, len(self._content))
        for opset in self._all(model, "opset_import", "opset"):
            domain = self._text(opset, "domain")
            version = self._number(opset, "version")
            if domain != "" or version != OPSET:
                raise UnfitError(f"uses operators of {domain or 'ai.onnx'} {version}")
        if "graph" not in model:
            raise ValueError("it has no graph")
        graph = self._one(model, "graph", "graph")
        if len(graph.get("node", ())) > MOST_NODES:
            raise UnfitError(f"has more than {MOST_NODES:,} nodes")
        tensors = [
            (self._text(tensor, "name"), self._tensor(tensor))
            for tensor in self._all(graph, "tensor", "tensor")
        ]
        constants = _unique(tensors)
        inputs = _unique([self._port(port) for port in self._all(graph, "input", "port")])
        return OnnxGraph(
            inputs={name: port for name, port in inputs.items() if name not in constants},
            outputs=_unique([self._port(port) for port in self._all(graph, "output", "port")]),
            constants=constants,
            nodes=tuple(self._node(node) for node in self._all(graph, "node", "node")),
        )

    def weights(self) -> Iterator[tuple[str, Floats]]:
        """Yield the float32 constants whose bytes stand in one piece, by name."""
        graph = self._one(self._message("model", 0, len(self._content)), "graph", "graph")
        for tensor in self._all(graph, "tensor", "tensor"):
            known = self._tensor(tensor)  # whose size is that of its bytes
            if known.dtype == "float32" and "raw_data" in tensor:
                start, end = tensor["raw_data"][0][1:]
                values = np.frombuffer(self._content[start:end], dtype="<f4")
                yield self._text(tensor, "name"), values.reshape(known.shape)

    def _node(self, node: _Message) -> Node:
        """Read an operation; refuse operators and attributes that no export uses."""
        operator, domain = self._text(node, "op_type"), self._text(node, "domain")
        if domain or operator not in OPERATORS:
            name = f"{domain}.{operator}" if domain else operator
            raise UnfitError(f"has the operator {name[:80]!r}, which no export uses")
        attributes = _unique(
            [self._attribute(one) for one in self._all(node, "attribute", "attribute")]
        )
        if unknown := attributes.keys() - OPERATORS[operator]:
            raise UnfitError(f"has a {operator} with {min(unknown)[:80]!r}, which no export uses")
        return Node(
            operator=operator,
            inputs=tuple(self._texts(node, "input")),
            outputs=tuple(self._texts(node, "output")),
            attributes=attributes,
        )

    def _attribute(self, attribute: _Message) -> tuple[str, Any]:
        """Read an attribute: its name and its value."""
        name = self._text(attribute, "name")
        values = attribute.keys() & set(_ATTRIBUTE_KINDS.values())
        if len(values) > 1:
            raise ValueError(f"attribute {name!r} has several values")
        # By its type, since there may be no value: proto3 leaves out a 0 and an empty list.
        kind = _ATTRIBUTE_KINDS.get(self._number(attribute, "type"))
        if kind is None or (values and kind not in values):
            raise UnfitError(f"has an attribute {name[:80]!r} of a type that no export uses")
        if kind == "t":
            return name, self._tensor(self._one(attribute, "t", "tensor"))
        if kind == "s":
            return name, self._text(attribute, "s")
        if kind == "ints":
            return name, tuple(self._integers(attribute, "ints"))
        if kind == "floats":
            return name, tuple(self._floats(attribute, "floats"))
        return name, self._number(attribute, "i") if kind == "i" else self._float(attribute)

    def _tensor(self, tensor: _Message) -> KnownTensor:
        """Read a constant; its values where they are few, and else only that they are all there."""
        shape = tuple(self._integers(tensor, "dims"))
        number = self._number(tensor, "data_type")
        if number not in DTYPES:
            raise UnfitError(f"has a tensor of type {number}")
        if len(shape) > MOST_RANK or any(size < 0 for size in shape):
            raise UnfitError(f"has a tensor of shape {shape[:MOST_RANK]}")
        dtype, width = DTYPES[number]
        count = math.prod(shape)
        listed = [name for name in ("float_data", "int32_data", "int64_data") if name in tensor]
        if len(listed) + ("raw_data" in tensor) > 1:
            raise ValueError("a tensor has its data twice")
        values: Values | None = None
        if listed:
            read = self._floats if listed == ["float_data"] else self._integers
            numbers = list(read(tensor, listed[0]))
            if len(numbers) == count and count <= SMALL and dtype in ("float32", "int32", "int64"):
                values = np.array(numbers, dtype=dtype).reshape(shape)
            size = len(numbers) * width
        else:
            start, end = next(iter(tensor.get("raw_data", [(BYTES, 0, 0)])))[1:]
            size = end - start
            if size == count * width and count <= SMALL and dtype != "bfloat16":
                values = np.frombuffer(self._content[start:end], dtype=dtype).reshape(shape)
        if size != count * width:
            raise UnfitError(f"has a tensor of shape {shape} with {size:,} bytes")
        return KnownTensor(shape, dtype, values)

    def _port(self, port: _Message) -> tuple[str, ArraySpec]:
        """Read an input or output of the graph: its name, and its type and shape."""
        name = self._text(port, "name")
        kind = self._one(self._one(port, "type", "type"), "tensor_type", "tensor_type")
        number = self._number(kind, "elem_type")
        if number not in DTYPES or "shape" not in kind:
            raise UnfitError(f"has an input or output {name[:80]!r} without type or shape")
        shape = [
            self._text(dim, "dim_param") or self._number(dim, "dim_value")
            for dim in self._all(self._one(kind, "shape", "shape"), "dim", "dim")
        ]
        return name, ArraySpec(DTYPES[number][0], tuple(shape))

    def _message(self, kind: str, start: int, end: int) -> _Message:
        """Read the fields of the message of a kind in bytes [start, end)."""
        message: _Message = {}
        names = _FIELDS[kind]
        for number, *field in read_fields(self._content, start, end):
            # A tensor's field 14 says where its data is; 0 means in this file.
            if (kind, number) in _REFUSED and not (number == 14 and field[1:] == [0, 0]):
                raise UnfitError(_REFUSED[kind, number])
            if number not in names:
                if (kind, number) == ("tensor", 14):
                    continue
                raise UnfitError(f"has a field {kind}.{number}, which no export writes")
            name = names[number]
            wire, first, last = field
            message.setdefault(name, []).append((wire, first, last))
            # Readers differ in which of two values they take, or merge them.
            if len(message[name]) > 1 and (name not in _REPEATED or kind == "opset"):
                raise ValueError(f"{kind}.{name} stands in it twice")
        return message

    def _all(self, message: _Message, field: str, kind: str) -> Iterator[_Message]:
        """Read the messages of a kind in a field."""
        for wire, start, end in message.get(field, ()):
            if wire != BYTES:
                raise ValueError(f"{field} is no message")
            yield self._message(kind, start, end)

    def _one(self, message: _Message, field: str, kind: str) -> _Message:
        """Read the first message of a kind in a field, which must be there."""
        for inner in self._all(message, field, kind):
            return inner
        raise ValueError(f"{field} is missing")

    def _texts(self, message: _Message, field: str) -> Iterator[str]:
        """Yield the texts of a field."""
        for wire, start, end in message.get(field, ()):
            if wire != BYTES:
                raise ValueError(f"{field} is no text")
            yield self._content[start:end].decode("utf-8")

    def _text(self, message: _Message, field: str) -> str:
        """Return the text of a field; empty where proto3 left it out."""
        return next(self._texts(message, field), "")

    def _number(self, message: _Message, field: str) -> int:
        """Return the whole number of a field; 0 where proto3 left it out."""
        return next(self._integers(message, field), 0)

    def _integers(self, message: _Message, field: str) -> Iterator[int]:
        """Yield the whole numbers of a field, packed or one by one."""
        for wire, start, end in message.get(field, ()):
            if wire == VARINT:
                yield signed(start)
            elif wire == BYTES:  # packed
                while start < end:
                    value, start = read_varint(self._content, start)
                    yield signed(value)
            else:
                raise ValueError(f"{field} is no integer")

    def _floats(self, message: _Message, field: str) -> Iterator[float]:
        """Yield the float32 numbers of a field, packed or one by one."""
        for wire, start, end in message.get(field, ()):
            if wire not in (BYTES, FIXED32):
                raise ValueError(f"{field} is no number")
            yield from np.frombuffer(self._content[start:end], dtype="<f4").tolist()

    def _float(self, message: _Message) -> float:
        """Return the float of an attribute; 0 where proto3 left it out."""
        return next(self._floats(message, "f"), 0.0)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return pairs as a dict. No name may come twice: readers differ in which one counts."""
    by_name = dict(pairs)
    if len(by_name) != len(pairs):
        raise ValueError("a name stands in it twice")
    return by_name
