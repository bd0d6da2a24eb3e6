"""LMDBs opened for reading: each once in a process, whoever asks, and anew after a fork."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, MissingDependencyError
from ..limits import open_regular_file, reason

if TYPE_CHECKING:
    import lmdb

# A process may hold an LMDB open only once, and must not use what its parent opened.
_environments: dict[Path, tuple[tuple[int, int], lmdb.Environment]] = {}
_lock = threading.Lock()


def open_lmdb(path: Path) -> lmdb.Environment:
    """Open an LMDB for reading, wherever it lies; do not close it, others may use it too.

    Exactly the file is mapped into memory.

    Raises:
        InputError: it is no LMDB, or is shorter than it says.
        MissingDependencyError: lmdb is not installed.
    """
    try:
        import lmdb
    except ImportError as error:
        raise MissingDependencyError("lmdb", "data", "reading LMDBs") from error
    path = path.resolve()
    file = path / "data.mdb" if path.is_dir() else path
    with _lock:
        try:
            now = (os.getpid(), file.stat().st_ino)
            before, environment = _environments.get(path, (None, None))
            if environment is not None:
                if before == now:
                    return environment
                environment.close()
            environment = lmdb.open(
                str(path),
                map_size=whole_size(file),
                readonly=True,
                lock=False,
                readahead=False,
                subdir=path.is_dir(),
            )
        except (OSError, lmdb.Error) as error:
            text = reason(error)
            raise InputError(f"{file}: is no LMDB that can be opened ({text})") from error
        _environments[path] = (now, environment)
        return environment


# A file begins with two pages of this, which are written in turn; the newer transaction counts.
# Page header (16 bytes) | magic, version (4 each) | address, map size (8 each) | two databases of
# 48 bytes, the first of which begins with the page size (4) | last page, transaction (8 each)
_META = struct.Struct("<16x II 16x I 92x QQ")
_MAGIC = 0xBEEFC0DE


def whole_size(file: Path) -> int:
    """Return the size of an LMDB's file, once it is known to be whole.

    LMDB reads the pages that a file's head speaks of without asking how long the file is: in one
    that was cut off, that ends the process (SIGBUS).

    Raises:
        InputError: it is no LMDB, or is shorter than it says.
    """
    with open_regular_file(file, what="an LMDB's data.mdb") as stream:
        size = os.fstat(stream.fileno()).st_size
        pages = [stream.read(_META.size)]
        if size >= 2 * _META.size and len(pages[0]) == _META.size:
            stream.seek(min(_META.unpack(pages[0])[2], size))
            pages.append(stream.read(_META.size))
    heads = [_META.unpack(page) for page in pages if len(page) == _META.size]
    if len(heads) != 2 or any(magic != _MAGIC or not page for magic, _, page, *_ in heads):
        raise InputError(f"{file}: is no LMDB, or its beginning is damaged")
    _, _, page, last, _ = max(heads, key=lambda head: head[-1])
    if (last + 1) * page > size:
        raise InputError(
            f"{file}: has {size:,} bytes, its head speaks of {(last + 1) * page:,}; "
            "it was cut off, copy it again"
        )
    return size


def _new_lock() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_new_lock)
