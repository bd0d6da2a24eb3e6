"""LMDBs opened for reading: each once in a process, whoever asks, and anew after a fork."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from hficma.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    import lmdb

# A process may hold an LMDB open only once, and must not use what its parent opened.
_opened: dict[Path, tuple[tuple[int, int], lmdb.Environment]] = {}
_lock = threading.Lock()


def open_lmdb(path: Path) -> lmdb.Environment:
    """Open an LMDB for reading, wherever it lies; do not close it, others may use it too.

    Raises:
        InputError: it is no LMDB.
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
            before, environment = _opened.get(path, (None, None))
            if environment is not None:
                if before == now:
                    return environment
                environment.close()
            environment = lmdb.open(
                str(path), readonly=True, lock=False, readahead=False, subdir=path.is_dir()
            )
        except (OSError, lmdb.Error) as error:
            raise InputError(f"{path}: is no LMDB that can be opened ({error})") from error
        _opened[path] = (now, environment)
        return environment


def _new_lock() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_new_lock)
