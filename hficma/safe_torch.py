"""Files of `torch.save`, in its old and its zip form, read without torch and without danger."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from hficma.errors import InputError
from hficma.safe_builders import STORAGES, Allowed, Array
from hficma.safe_pickle import bytes_of, read_pickle

_MAGIC = 0x1950A86A20F9469CFC6C


def load_checkpoint(path: Path) -> Any:
    """Read what `torch.save` wrote; tensors become numpy arrays.

    Args:
        path: such as HF-ICMA's `model_e*.pth.tar` or AdaMine's `ckpt_*_model.pth.tar`.

    Raises:
        InputError: the file is damaged, no such file, or asks for what no checkpoint needs.
    """
    return read_torch(bytes_of(path), name=str(path))


def read_torch(content: bytes, *, name: str) -> Any:
    """Like `load_checkpoint`, from bytes."""
    try:
        if content.startswith(b"PK\x03\x04"):
            return _read_zip(content, name)
        return _read_old(content, name)
    except (zipfile.BadZipFile, StopIteration, LookupError, TypeError, ValueError, OSError,
            NotImplementedError, struct.error) as error:  # fmt: skip
        raise InputError(f"{name}: is no readable file of torch.save ({error})") from error


def _read_old(content: bytes, name: str) -> Any:
    file = io.BytesIO(content)
    magic, _version, _system = (read_pickle(file, name=name) for _ in range(3))
    if magic != _MAGIC:
        raise InputError(f"{name}: is no file of torch.save")
    storages: dict[str, Array] = {}
    room = len(content)

    def storage_of(identity: tuple[Any, ...]) -> Array:
        nonlocal room
        dtype, key, count = _storage_facts(identity)
        if key not in storages:
            room -= count * dtype.itemsize
            if room < 0:
                raise ValueError("its tensors are larger than the file")
            storages[key] = np.zeros(count, dtype=dtype)  # the values stand behind the pickle
        return storages[key]

    value = read_pickle(file, name=name, storage_of=storage_of)
    for key in read_pickle(file, name=name):
        (count,) = struct.unpack("<q", file.read(8))
        storage = storages[str(key)]
        if count != len(storage):
            raise ValueError(f"storage {key} holds {count} values, not {len(storage)}")
        storage[:] = np.frombuffer(file.read(storage.nbytes), dtype=storage.dtype)
    return value


def _read_zip(content: bytes, name: str) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        root = next(n for n in archive.namelist() if n.endswith("data.pkl"))[: -len("data.pkl")]
        # torch.save stores without compression: anything larger than the file is a trap.
        if sum(info.file_size for info in archive.infolist()) > len(content):
            raise InputError(f"{name}: its members are larger than the file; refused")
        storages: dict[str, Array] = {}

        def storage_of(identity: tuple[Any, ...]) -> Array:
            dtype, key, count = _storage_facts(identity)
            if key not in storages:
                raw = bytearray(archive.read(f"{root}data/{key}"))
                storages[key] = np.frombuffer(raw, dtype=dtype, count=count)
            return storages[key]

        pickled = io.BytesIO(archive.read(f"{root}data.pkl"))
        return read_pickle(pickled, name=name, storage_of=storage_of)


def _storage_facts(identity: tuple[Any, ...]) -> tuple[np.dtype[Any], str, int]:
    tag, kind, key, _location, count = identity[:5]
    if tag != "storage" or not isinstance(kind, Allowed) or type(count) is not int or count < 0:
        raise ValueError("a persistent object that is no storage")
    return np.dtype(STORAGES[kind.name.rpartition(".")[2]]), str(key), count
