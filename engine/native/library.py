"""Find the compiled kernels, and call them: the C interface of kernels/kernels.h in `ctypes`.

A call releases Python's lock, so tiles run side by side on the threads of a pool.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hficma.types import Array, Bytes

from .build import LIBRARY

KINDS = ("avx512", "avx2", "portable")
"""Variants that compute in float32, fastest first."""
SCREEN = "avx512bf16"
"""The variant whose products read bfloat16."""
INTERFACE = 2
"""Of kernels.h: the C interface that stands here."""
STORED_TYPES = {"float32": 0, "float16": 1, "int8": 2}
"""What `struct rows` calls element types."""
PROJECTIONS = ("query", "key", "value", "gate", "fuse")
"""Arrays of a row of D numbers a token, in the order of the structures and projecting weights."""
TABLES = (*PROJECTIONS, "gate_bias", "mean", "table")
"""All arrays of items at `tables`, in the order of the structures."""
LINE = 64
"""Bytes of a cache line, at which buffers begin."""

_log = logging.getLogger("hficma")

Size = c_int64
Pointer = c_void_p


class Rows(Structure):
    """`struct rows`: an array of rows where it lies."""

    _fields_ = (("values", Pointer), ("scales", Pointer), ("type", Size))


class Weights(Structure):
    """`struct weights`."""

    _fields_ = (
        ("width", Size),
        ("heads", Size),
        ("query_first", Size),
        ("query_bias", Pointer),
        ("item_bias", Pointer),
        ("hidden", Pointer),
        ("hidden_bias", Pointer),
        ("output", Pointer),
        ("output_bias", c_float),
        ("table", Pointer),
        ("projection", Pointer),
        ("projection_bias", Pointer),
        ("gate_bias", Pointer),
    )


class Query(Structure):
    """`struct query`."""

    _fields_ = (("length", Size), *((name, Pointer) for name in TABLES))


class Items(Structure):
    """`struct items`."""

    _fields_ = (
        ("count", Size),
        ("lengths", Pointer),
        ("first", Pointer),
        ("places", Pointer),
        *((name, Rows) for name in ("tokens", *PROJECTIONS)),
        ("gate_bias", Pointer),
        ("mean", Pointer),
        ("table", Rows),
    )


class Tables(Structure):
    """`struct tables`."""

    _fields_ = tuple((name, Pointer) for name in TABLES)


_W, _Q, _I, _T = POINTER(Weights), POINTER(Query), POINTER(Items), POINTER(Tables)


class Functions(Structure):
    """`struct functions`."""

    _fields_ = (
        ("packed_bytes", CFUNCTYPE(Size, Size, Size)),
        ("pack", CFUNCTYPE(None, Pointer, Size, Size, Size, Size, Pointer)),
        ("query_bytes", CFUNCTYPE(Size, _W, Size)),
        ("pack_query", CFUNCTYPE(None, _W, _Q, Pointer)),
        ("scratch_bytes", CFUNCTYPE(Size, _W, Size, Size, Size, Size)),
        ("fuse", CFUNCTYPE(None, _W, Pointer, _I, Pointer, Pointer)),
        ("means_stride", CFUNCTYPE(Size, Size)),
        ("match_parts", CFUNCTYPE(Size, Size)),
        ("match", CFUNCTYPE(None, _W, Pointer, Size, Size, Size, Pointer, Pointer)),
        ("match_scratch_bytes", CFUNCTYPE(Size, Size, Size)),
        ("finish", CFUNCTYPE(None, _W, Pointer, Size, Pointer)),
        ("tabulate", CFUNCTYPE(None, _W, _I, _T, Pointer)),
        ("tabulate_scratch_bytes", CFUNCTYPE(Size, _W, Size, Size)),
    )


class MissingKernelsError(Exception):
    """There are no kernels for this processor; the message says why."""


@cache
def load(kind: str | None = None, folder: Path = Path(__file__).parent) -> tuple[str, Any]:
    """Return the functions of a kind of processor, loaded once.

    Args:
        kind: of `KINDS` or `SCREEN`; None takes the fastest in float32 that this processor runs.
        folder: that holds the library.

    Returns:
        the kind, and its `Functions`.

    Raises:
        MissingKernelsError: there is none.
    """
    try:
        library = ctypes.CDLL(str(folder / LIBRARY))
    except OSError as error:
        reason = "they were not compiled with this install"
        if (folder / LIBRARY).exists():
            reason = f"they cannot be loaded: {error}"
        raise MissingKernelsError(reason) from error
    library.hficma_interface.restype = Size
    if library.hficma_interface() != INTERFACE:
        raise MissingKernelsError("they were compiled from other sources: install again")
    find = library.hficma_functions
    find.argtypes, find.restype = [c_char_p], POINTER(Functions)
    for name in KINDS if kind is None else (kind,):
        functions = find(name.encode())
        if functions:
            return name, functions.contents
    raise MissingKernelsError(f"this processor does not run {kind}")


@cache
def has_kernels() -> bool:
    """Return whether this install has kernels for this processor; the log says where not."""
    try:
        load()
    except MissingKernelsError as error:
        _log.info("pairs are scored without compiled kernels, slower: %s", error)
        return False
    return True


def describe() -> str:
    """Return in words which kernels there are for this processor."""
    try:
        kind, _ = load()
    except MissingKernelsError as error:
        return f"not here: {error}"
    return f"CPU; compiled kernels for {kind}"


@cache
def kernels_id() -> str:
    """Return what tells these kernels from others: what was measured of them holds for them."""
    content = (Path(__file__).parent / LIBRARY).read_bytes()
    return f"{load()[0]}-{hashlib.sha256(content).hexdigest()[:16]}"


def kinds(folder: Path = Path(__file__).parent) -> list[str]:
    """Return every kind that this processor runs, fastest first; empty without a library."""
    runnable = []
    for kind in (SCREEN, *KINDS):
        try:
            load(kind, folder)
        except MissingKernelsError:
            continue
        runnable.append(kind)
    return runnable


def buffer(size: int) -> Bytes:
    """Return memory of `size` bytes that begins at a cache line."""
    memory = np.empty(size + LINE, dtype=np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size]


def address(array: Array | None) -> int | None:
    """Return where an array's first element lies; None for no array. The caller keeps the array."""
    if array is None:
        return None
    return int(array.__array_interface__["data"][0])
