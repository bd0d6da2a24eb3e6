"""Refuses ONNX files that read other files, before a runtime sees them.

An ONNX tensor may name a file that holds its data, anywhere on the machine. The graphs of a
bundle carry their weights inside, so any such name is refused. Reads the protobuf wire format
directly: the `onnx` package is not needed to serve.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from hficma.errors import ArtifactError

_Schema = dict[int, str]
_MESSAGES: dict[str, _Schema] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external", 14: "location"},
}
"""Field numbers of onnx.proto3 that lead to tensors."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def refuse_external_data(file: Path) -> None:
    """Check that an ONNX file holds all of its data.

    Raises:
        ArtifactError: a tensor's data lies elsewhere, or the file is no ONNX file.
    """
    with file.open("rb") as opened:
        try:
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
                outside = _reads_outside(content, 0, len(content), "model")
        except (ValueError, IndexError, RecursionError) as error:
            raise ArtifactError(f"{file}: is no ONNX file ({error})") from error
    if outside:
        raise ArtifactError(f"{file}: reads weights from another file; refused")


def _reads_outside(content: mmap.mmap, start: int, end: int, message: str) -> bool:
    for field, first, last in _fields(content, start, end):
        kind = _MESSAGES[message].get(field)
        if kind == "external" or (kind == "location" and first != 0):
            return True
        if kind in _MESSAGES and _reads_outside(content, first, last, kind):
            return True
    return False


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Fields of a message: number, then value twice (varint) or where its bytes lie."""
    position = start
    while position < end:
        key, position = _varint(content, position)
        wire = key & 7
        if wire == _VARINT:
            value, position = _varint(content, position)
            yield key >> 3, value, value
            continue
        if wire == _BYTES:
            size, position = _varint(content, position)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if position + size > end:
            raise ValueError("a field is longer than its message")
        yield key >> 3, position, position + size
        position += size


def _varint(content: mmap.mmap, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
