"""Reads or maps a file of an index, without a descriptor that stays open.

A shard has a dozen files and an index a thousand shards, so a descriptor each would be more than
a process may have. Mapped bytes outlive the file's name and its descriptor: a reader goes on
while a writer compacts its shards away.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import operator
import os
import stat
import sys
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from hficma.artifacts.file_memory import FileIdentity
from hficma.errors import ArtifactError
from hficma.types import Bytes

SMALL = 1 << 16
"""Files below this are read into memory: a mapping takes a page, and a place among the 65,530
that Linux gives a process."""

Content: TypeAlias = Bytes
"""(bytes,) of a file, read-only."""


_FLAGS = os.O_RDONLY | functools.reduce(
    operator.or_,
    (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")),
)


class FileBytes(NamedTuple):
    """A file's content, as it was opened."""

    path: Path
    content: Content
    """(bytes,) read-only."""
    identity: FileIdentity
    """Of the file as it was opened."""


def open_bytes(path: Path, size: int) -> FileBytes:
    """Read or map a file.

    Args:
        path: of a regular file; a link is refused.
        size: bytes that it must have.

    Raises:
        ArtifactError: missing, a link, of another size, or the system does not let it be read.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        raise ArtifactError(f"{path}: {unreadable(error)}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError(f"{path}: is no regular file; make the index again")
        if status.st_size != size:
            raise ArtifactError(
                f"{path}: is damaged ({status.st_size} bytes, not {size}); make the index again"
            )
        content = _read(descriptor, size) if size < SMALL else _mapped(descriptor, size)
    except OSError as error:
        raise ArtifactError(f"{path}: {unreadable(error)}") from error
    finally:
        os.close(descriptor)
    content.flags.writeable = False
    return FileBytes(path, content, FileIdentity.of(status))


def unreadable(error: OSError) -> str:
    """Return what is wrong with a file that the system does not open, and what to do about it.

    Args:
        error: as the system raised it.
    """
    if error.errno == errno.ENOENT:
        return "is missing; make the index again"
    if error.errno == errno.ELOOP:
        return "is a link, and none is followed inside an artifact"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"cannot be opened ({error.strerror}); close other indexes, or raise `ulimit -n`"
    if error.errno == errno.ENOMEM:
        return f"cannot be mapped ({error.strerror}); `hficma index compact` makes fewer files"
    return f"cannot be read ({error.strerror})"


def _read(descriptor: int, size: int) -> Content:
    """Read a file whole."""
    content = b""
    while len(content) < size:
        piece = os.read(descriptor, size - len(content))
        if not piece:
            raise OSError(errno.EIO, "it became shorter while it was read")
        content += piece
    return np.frombuffer(content, np.uint8)


class _Region:
    """Mapped memory that is unmapped when the last array over it is gone."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._size = size
        self._address = _LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        if self._address == _FAILED:
            self._address = None
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        # numpy keeps whoever shows this interface alive for as long as an array needs the memory.
        self.__array_interface__ = {
            "version": 3, "typestr": "|u1", "shape": (size,), "data": (self._address, True),
        }  # fmt: skip

    def __del__(self) -> None:
        if self._address is not None:
            _LIBC.munmap(self._address, self._size)


def _mapped(descriptor: int, size: int) -> Content:
    """Map a file; the descriptor may be closed then."""
    if _LIBC is not None:
        return np.asarray(_Region(descriptor, size))
    options: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
    return np.frombuffer(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ, **options), np.uint8)


def _posix_libc() -> Any:
    """Return the C library, for its `mmap`; None on Windows.

    Before 3.13, Python's own `mmap` keeps a copy of the descriptor for as long as the mapping.
    """
    if os.name != "posix":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    # off_t is as wide as size_t wherever the rest of the project runs.
    sizes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_ssize_t)
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *sizes]
    libc.mmap.restype = ctypes.c_void_p
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.munmap.restype = ctypes.c_int
    return libc


_LIBC = _posix_libc()
_FAILED = ctypes.c_void_p(-1).value
