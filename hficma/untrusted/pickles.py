"""Pickles from outside, read without danger.

Three steps. `pickle_scan` follows each pickle without values and refuses what would cost out of
proportion to the file. `pickle.Unpickler` runs it, with a list of what it may name
(`pickle_globals`): plain containers, numpy arrays of numbers, torch tensors (as numpy arrays; torch
itself is not needed) and PIL images. Of these it only makes records, from which the values are
built when it has ended (`pickle_records`). Any other global is refused by name.
"""

from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from ..limits import MEGABYTE, read_regular_file
from ..types import Array
from .pickle_globals import GLOBALS, STORAGES
from .pickle_records import NotDataError, Record, ValueBuilder
from .pickle_scan import UnsafePickleError, refusal, scan_pickle

__all__ = ["UnsafePickleError", "load_all", "loads"]

PICKLE_BYTES = 1_000 * MEGABYTE
"""A file of pickles; Recipe1M's word vectors take 36 MB, its classes 26."""
EXPANSION = 100
"""Times its file that a value may take: one text that a list names again and again takes two bytes
in the file for each."""
EXPANSION_FREE = 10 * MEGABYTE
"""Bytes below which a value may be any times its file."""

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C


def loads(content: bytes, *, name: str) -> Any:
    """Read one pickle.

    Args:
        content: its bytes, any protocol, Python 2 or 3; what follows its end is ignored.
        name: how to name the source in an error.

    Raises:
        UnsafePickleError: it names a global that is not on the list.
        InputError: it is damaged, or no pickle.
    """
    return _read(content, 0, name=name)[0]


def load_all(path: Path) -> list[Any]:
    """Read a file of one or several pickles, one after the other, as `classes1M.pkl` is.

    Raises:
        InputError: as `loads`.
    """
    content = read_regular_file(path, limit=PICKLE_BYTES, what="a file of pickles")
    if not content:
        raise InputError(f"{path}: the file is empty")
    values: list[Any] = []
    position = 0
    while position < len(content):
        value, position = _read(content, position, name=str(path))
        values.append(value)
    return values


def _read(content: bytes, start: int, *, name: str, storages: bool = False) -> tuple[Any, int]:
    """Read the pickle at a position; also return the position behind its end."""
    end = scan_pickle(content, start, name=name, storages=storages)
    try:
        loaded = _Unpickler(content[start:end], name).load()
        builder = ValueBuilder(
            EXPANSION_FREE + EXPANSION * (end - start),
            lambda stored: _read_storage(stored, name=name),
        )
        return builder.value(loaded), end
    except InputError:
        raise
    except NotDataError as error:
        raise refusal(name, str(error)) from error
    except Exception as error:  # a hostile program can fail in any way; none of them is ours
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise InputError(f"{name}: is no readable pickle ({text})") from error


class _Unpickler(pickle.Unpickler):
    """Runs a pickle, with records in place of all that it calls."""

    def __init__(self, content: bytes, name: str) -> None:
        # Python 2 wrote arrays' values as text: latin-1 gives each byte back.
        super().__init__(io.BytesIO(content), encoding="latin1", errors="strict")
        self._name = name

    def find_class(self, module: str, name: str) -> type[Record]:
        allowed = GLOBALS.get((module, name))
        if allowed is None:
            raise refusal(self._name, f"{module}.{name}")
        return allowed

    def persistent_load(self, identity: Any) -> Record:
        return _StorageReference(*identity)


class _StorageFacts(NamedTuple):
    """What a reference to a storage says of it."""

    dtype: np.dtype[Any]
    key: str
    size: int


class _StorageReference(Record):
    """A tensor's storage that stands behind the pickle: ("storage", type, key, place, count)."""

    __slots__ = ()
    path = "a storage"

    def build(self, builder: ValueBuilder) -> _StorageFacts:
        tag, kind, key, _place, count = self.arguments[:5]
        named = isinstance(kind, type) and issubclass(kind, Record)
        storage = kind.path.rpartition(".")[2] if named else ""
        if tag != "storage" or storage not in STORAGES or type(count) is not int or count < 0:
            raise ValueError("a persistent object that is no storage")
        return _StorageFacts(np.dtype(STORAGES[storage]), str(key), count)


def _read_storage(content: bytes, *, name: str) -> Array:
    """Read a storage that `torch.save` wrote in its old form, (n,).

    magic, version and system | reference to the storage | keys | count (8 bytes) | values
    """
    magic, end = _read(content, 0, name=name)
    for _ in range(2):
        _, end = _read(content, end, name=name)
    facts, end = _read(content, end, name=name, storages=True)
    keys, end = _read(content, end, name=name)
    if magic != _TORCH_MAGIC or not isinstance(facts, _StorageFacts) or keys != [facts.key]:
        raise InputError(f"{name}: a tensor's values are no storage of torch.save")
    (count,) = struct.unpack_from("<q", content, end)
    values = content[end + 8 : end + 8 + facts.size * facts.dtype.itemsize]
    if count != facts.size or len(values) != count * facts.dtype.itemsize:
        raise InputError(f"{name}: a storage of {facts.size} values holds {len(values)} bytes")
    return np.frombuffer(values, dtype=facts.dtype).copy()
