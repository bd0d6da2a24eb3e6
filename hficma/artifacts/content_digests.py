"""What caches are keyed by: the content of files, photos and code, never a name or a count.

A file is read whole once and its digest remembered beside its size and times; it is read again
only where one of these differs. Photos that have not changed cost a look at each, not their
bytes: 1.4 s for 100,000 on two busy cores.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from io import BufferedReader
from pathlib import Path
from typing import cast

from ..limits import open_regular_file

logger = logging.getLogger("hficma")

SETTLED_NS = 2_000_000_000
"""A file younger than this is not remembered: it could change once more within the clock's tick,
and keep size and times."""
THREADS = 8
"""Files read at once; hashing releases the interpreter."""
_TOGETHER = 500
_BUSY_SECONDS = 30.0
_TABLE = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, stamp TEXT NOT NULL, digest TEXT NOT NULL
) WITHOUT ROWID
"""


class FileDigests:
    """SHA-256 of files, remembered in a workspace's cache.

    Args:
        cache: the workspace's cache folder; `content.sqlite` in it may be removed at any time.
    """

    def __init__(self, cache: Path) -> None:
        self._file = cache / "content.sqlite"

    def of(self, paths: Iterable[Path]) -> list[str]:
        """The digest of each file, in order; of one that cannot be read, why, as a digest."""
        names = [os.path.abspath(path) for path in paths]
        distinct = list(dict.fromkeys(names))
        stamps = {name: _stamp(name) for name in distinct}
        known = self._remembered(distinct, stamps)
        missing = [name for name in distinct if name not in known]
        with ThreadPoolExecutor(THREADS) as pool:
            read = dict(zip(missing, pool.map(_digest, missing), strict=True))
        self._remember(stamps, read)
        known |= read
        return [known[name] for name in names]

    def _remembered(self, names: Sequence[str], stamps: dict[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        if not self._file.is_file():
            return found
        try:
            with sqlite3.connect(self._file, timeout=_BUSY_SECONDS) as store:
                store.execute(_TABLE)
                for start in range(0, len(names), _TOGETHER):
                    keys = [os.fsencode(name) for name in names[start : start + _TOGETHER]]
                    marks = ",".join("?" * len(keys))
                    rows = store.execute(
                        f"SELECT path, stamp, digest FROM files WHERE path IN ({marks})", keys
                    )
                    for key, stamp, digest in rows:
                        name = os.fsdecode(key)
                        if stamp == stamps[name]:
                            found[name] = digest
            store.close()
        except sqlite3.Error as error:
            self._give_up(error)
            return {}
        return found

    def _remember(self, stamps: dict[str, str], read: dict[str, str]) -> None:
        rows = [
            (os.fsencode(name), stamps[name], digest)
            for name, digest in read.items()
            # Looked at again: a file that was written while it was read has another stamp now.
            if stamps[name] and _settled(name) and _stamp(name) == stamps[name]
        ]
        if not rows:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with sqlite3.connect(self._file, timeout=_BUSY_SECONDS) as store:
                store.execute(_TABLE)
                store.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)
            store.close()
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Without the memory every file is read each time: slower, and just as right."""
        logger.warning("%s: is left aside (%s); files are read each time", self._file, error)
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        ):
            self._file.unlink(missing_ok=True)  # it is damaged, and holds nothing of worth


@cache
def code_digest(*modules: str, packages: tuple[str, ...] = ()) -> str:
    """Changes with the source of modules and the versions of packages that made something.

    Read once a process: what is on disk may be newer than what runs, after an update.

    Args:
        modules: by full name; a package stands for all of its own modules, and `hficma.image*` for
            those of that package whose names begin so.
        packages: distributions; one that is not installed counts as such.
    """
    digest = hashlib.sha256()
    for module in modules:
        package, _, pattern = module.rpartition(".") if module.endswith("*") else (module, "", "*")
        spec = find_spec(package)
        assert spec is not None, module
        assert spec.origin is not None, module
        origin = Path(spec.origin)
        several = origin.name == "__init__.py"
        files = sorted(origin.parent.glob(f"{pattern}.py")) if several else [origin]
        assert files, module  # a digest of nothing would never change
        for file in files:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    for package in packages:
        try:
            digest.update(f"{package} {metadata.version(package)}\n".encode())
        except metadata.PackageNotFoundError:
            digest.update(f"{package} none\n".encode())
    return digest.hexdigest()


def _stamp(name: str) -> str:
    """What a file cannot change without it changing; empty where there is no such regular file."""
    try:
        found = os.stat(name)
    except (OSError, ValueError):
        return ""
    if not stat.S_ISREG(found.st_mode):
        return ""
    # ctime too: `touch -d` and `cp -p` set mtime back, but not it.
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_dev} {found.st_ino}"


def _settled(name: str) -> bool:
    try:
        found = os.stat(name)
    except (OSError, ValueError):
        return False
    return time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > SETTLED_NS


def _digest(name: str) -> str:
    from ..errors import InputError

    try:
        with open_regular_file(name) as file:
            return hashlib.file_digest(cast(BufferedReader, file), "sha256").hexdigest()
    except (OSError, InputError) as error:
        return hashlib.sha256(f"unreadable: {error}".encode()).hexdigest()
