"""Reads protobuf's wire format: the few rules by which an ONNX file is bytes.

A message is a sequence of fields, each a key and a value. The key is a varint, number << 3 | wire
type. By the wire type the value is another varint, four or eight bytes, or a length and so many
bytes: a text, a message, or packed numbers. A varint holds 7 bits a byte, the lowest first; the
eighth bit says that another byte follows.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import TypeAlias

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types; 3 and 4 are groups, which no ONNX file has."""

Field: TypeAlias = "tuple[int, int, int, int]"
"""Number and wire type; then the value twice (varint), or where its bytes start and stop."""


def signed(value: int) -> int:
    """Return a varint as the signed 64-bit integer that it encodes, in two's complement."""
    return value - (1 << 64) if value >= 1 << 63 else value


def read_fields(content: mmap.mmap, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message in bytes [start, end) of a file.

    Raises:
        ValueError: a field of another wire type, or longer than its message.
        IndexError: the file ends within a number.
    """
    position = start
    while position < end:
        key, position = read_varint(content, position)
        wire = key & 7
        if wire == VARINT:
            value, position = read_varint(content, position)
            if position > end:
                raise ValueError("a field is longer than its message")
            yield key >> 3, wire, value, value
            continue
        if wire == BYTES:
            size, position = read_varint(content, position)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if position + size > end:
            raise ValueError("a field is longer than its message")
        yield key >> 3, wire, position, position + size
        position += size


def read_varint(content: mmap.mmap, position: int) -> tuple[int, int]:
    """Return the varint at a position of a file, and the position behind it.

    Raises:
        ValueError: it has more than 64 bits.
        IndexError: the file ends within it.
    """
    value = shift = 0
    while True:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                raise ValueError("a number is too long")
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
