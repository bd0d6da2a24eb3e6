"""Reads Torch7's binary files (`.t7`) without Lua: tables as dicts, tensors as mapped arrays.

Skip-instruction vectors come in this form, up to 29 GB a file; a tensor's values stay on the disk
until they are read. An object is, little-endian (int is 4 bytes, long 8, string an int and its
bytes):

    int 0                                              nil
    int 1 | double                                     number
    int 2 | string                                     string
    int 3 | int reference | int count | key, value ... table
    int 4 | int reference | "V 1" | "torch.FloatTensor"  | int dims | long sizes, strides | long
                                                         offset from 1 | storage, an object
    int 4 | int reference | "V 1" | "torch.FloatStorage" | long count | values
    int 5 | int                                        boolean

Other types are functions, which are never read: they are Lua bytecode. The format is that of
`torch.save` in Torch7's `File.lua`.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import InputError
from ....limits import open_regular_file

_DTYPES = {
    "Double": "<f8", "Float": "<f4", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Short": "<i2",
    "Char": "i1", "Byte": "u1",
}  # fmt: skip
_MAX_DEPTH = 50
"""Tables inside each other, at most: each is a call of the reader."""


def read_t7(path: Path) -> Any:
    """Read the object in a `.t7` file.

    Args:
        path: of the file.

    Returns:
        numbers, strings, booleans, None, dicts (Lua tables; those with keys 1..n as lists) and
        numpy arrays, read-only views of the file.

    Raises:
        InputError: the file cannot be read, is damaged, or holds functions or other classes.
    """
    try:
        with (
            open_regular_file(path, what="a .t7 file") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
        ):
            reader = _Reader(path, view)
            return reader.read(0)
    except InputError:
        raise
    except (OSError, ValueError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise InputError(f"{path}: is no readable .t7 file ({error})") from error


class _Reader:
    """Reads the objects of one file, from its beginning on."""

    def __init__(self, path: Path, view: mmap.mmap) -> None:
        self._path = path
        self._view = view
        self._at = 0
        # By reference: an object that occurs again is written as its number alone, so a table may
        # hold itself, and a tensor shares its storage with another.
        self._objects: dict[int, Any] = {}

    def read(self, depth: int) -> Any:
        """Read the next object, which lies in so many tables."""
        if depth > _MAX_DEPTH:
            raise InputError(f"{self._path}: tables are nested too deeply")
        kind = self._int()
        if kind == 0:
            return None
        if kind == 1:
            return self._unpack("<d", 8)
        if kind == 2:
            return self._string()
        if kind == 3:
            return self._table(depth)
        if kind == 4:
            return self._object(depth)
        if kind == 5:
            return self._int() == 1
        raise InputError(f"{self._path}: holds a Lua function or an unknown type ({kind}); refused")

    def _table(self, depth: int) -> Any:
        index = self._int()
        if index in self._objects:
            return self._objects[index]
        table: dict[Any, Any] = {}
        self._objects[index] = table  # before its values, which may refer to it
        for _ in range(self._count(self._int(), 8)):
            key = self.read(depth + 1)
            if not isinstance(key, (str, float, bool)):
                raise InputError(f"{self._path}: a table has a key that is no text or number")
            table[int(key) if isinstance(key, float) and key.is_integer() else key] = self.read(
                depth + 1
            )
        # Lua has no lists: a table with keys 1 to n is one.
        if table and set(table) == set(range(1, len(table) + 1)):
            self._objects[index] = [table[position] for position in range(1, len(table) + 1)]
        return self._objects[index]

    def _object(self, depth: int) -> Any:
        index = self._int()
        if index in self._objects:
            return self._objects[index]
        name = self._string()
        if name.startswith("V "):  # the version; files of before versions begin with the name
            name = self._string()
        package, _, kind = name.partition(".")
        dtype = _DTYPES.get(kind.removesuffix("Tensor").removesuffix("Storage"))
        if package != "torch" or dtype is None or not kind.endswith(("Tensor", "Storage")):
            raise InputError(f"{self._path}: holds a {name}; only tensors and tables are read")
        if kind.endswith("Storage"):
            value = self._storage(np.dtype(dtype))
        else:
            value = self._tensor(depth)
        self._objects[index] = value
        return value

    def _tensor(self, depth: int) -> Any:
        dims = self._count(self._int(), 16)
        size = tuple(self._long() for _ in range(dims))
        stride = tuple(self._long() for _ in range(dims))
        offset = self._long() - 1
        storage = self.read(depth + 1)
        if storage is None or not dims:
            return np.zeros(0, dtype=np.float32)
        if not isinstance(storage, np.ndarray) or storage.ndim != 1 or min((*size, *stride)) < 0:
            raise InputError(f"{self._path}: a tensor has no values or a negative size")
        # Sizes are the file's word: a view past the storage's end would read other memory.
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if offset < 0 or count > len(storage) or (count and last >= len(storage)):
            raise InputError(f"{self._path}: a tensor of size {size} has {len(storage)} values")
        if not count:
            return np.zeros(size, dtype=storage.dtype)
        steps = tuple(step * storage.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)

    def _storage(self, dtype: np.dtype[Any]) -> Any:
        count = self._count(self._long(), dtype.itemsize)
        at = self._skip(count * dtype.itemsize)
        if not count:
            return np.zeros(0, dtype=dtype)
        return np.memmap(self._path, dtype=dtype, mode="r", offset=at, shape=(count,))

    def _string(self) -> str:
        size = self._count(self._int(), 1)
        at = self._skip(size)
        return self._view[at : at + size].decode("utf-8", errors="replace")

    def _count(self, count: int, least: int) -> int:
        """Return a count of things of at least so many bytes each, once they fit into the file."""
        if not 0 <= count <= (len(self._view) - self._at) // least:
            raise InputError(f"{self._path}: ends early (a length of {count} at {self._at})")
        return count

    def _skip(self, size: int) -> int:
        """Go on by so many bytes; return where they begin."""
        at = self._at
        if at + size > len(self._view):
            raise InputError(f"{self._path}: ends early")
        self._at = at + size
        return at

    def _unpack(self, form: str, size: int) -> Any:
        return struct.unpack_from(form, self._view, self._skip(size))[0]

    def _int(self) -> int:
        return int(self._unpack("<i", 4))

    def _long(self) -> int:
        return int(self._unpack("<q", 8))
