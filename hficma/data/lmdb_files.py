"""LMDBs opened for reading: each once in a process, whoever reads it, and anew after a fork.

LMDB maps its file into memory and trusts it, and its documentation forbids opening a file twice in
one process or using one that the parent opened. Readers of a dataset are threads, forked workers
and pickled copies at once, so what is open is remembered here.
"""

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

# By path: (process, inode) that it was opened in and from, and the open LMDB. A child knows by the
# process that it must open its own, and a file that was replaced is known by its inode.
_environments: dict[Path, tuple[tuple[int, int], lmdb.Environment]] = {}
_lock = threading.Lock()


def open_lmdb(path: Path) -> lmdb.Environment:
    """Open an LMDB for reading; do not close it, others may use it too.

    It is opened without a lock file, so it may lie where nothing can be written. The map has the
    size of the file: a larger one would need addresses that a limit (`ulimit -v`) may deny.

    Args:
        path: its folder, or its file.

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


# A file begins with two meta pages, which are written in turn; that of the newer transaction
# counts, so a write that was cut off leaves the other one whole. Each holds, in bytes:
#   page header 16 | magic 4, version 4 | address 8, map size 8 | two databases of 48 each, the
#   first of which begins with the page size 4 | last page 8, transaction 8
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
