"""Reads an SQLite file of a shard: opened when it is needed, few of them at once.

Each open file is a descriptor, and an index may have a thousand shards. Small files are read into
memory instead; of the others the least recently used are closed and opened again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import xxhash

from hficma.artifacts.closing import Closing
from hficma.errors import ArtifactError

from .checksums import CheckedFile
from .file_bytes import SMALL

_log = logging.getLogger("hficma")

CONNECTIONS = 64
"""Files that a process keeps open at once: far below the 256 descriptors of some systems."""


def row_checksum(position: int, *values: str | int | None) -> int:
    """Return the checksum of an item's row: XXH3-64 as SQLite's signed integer.

    Args:
        position: of the item in its shard.
        *values: the row's other columns, in the order of the table.
    """
    text = json.dumps([position, *values])  # no two rows give the same text
    return int.from_bytes(xxhash.xxh3_64_digest(text.encode()), "little", signed=True)


class RecordFile(Closing):
    """An SQLite file for reading, from any thread.

    Args:
        path: of the file.
        file: its bytes, and what to compare them with; None compares nothing.

    Raises:
        ArtifactError: missing, or too many files are open.
    """

    def __init__(self, path: Path, file: CheckedFile | None = None) -> None:
        self.path = path
        self._file = file
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._closed = self._schema_known = False
        if file is None and not path.is_file():
            raise ArtifactError(f"{path}: is missing; make the index again")
        # Opened now, the file outlives its name; those past the limit are opened when needed.
        if not self._in_memory and _open_files.room:
            with self._lock:
                self._open_connection()

    def close(self) -> None:
        """Close the file for good; a query that is running ends first."""
        with self._lock:
            self._closed = True
            self._disconnect()
        _open_files.forget(self)

    def query(
        self, statement: str, values: Sequence[str | int] = (), *, rows_checked: bool = False
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a statement.

        Args:
            statement: SQL.
            values: of its question marks.
            rows_checked: whether the caller compares every row with its checksum; otherwise the
                whole file is compared first, once on this machine.

        Raises:
            ArtifactError: the file is damaged, or its index was closed.
        """
        if self._file is not None and not rows_checked:
            self._file.check_all()
        try:
            with self.connection() as connection:
                return connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self.damaged(str(error)) from error

    @contextlib.contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Hold the open connection for a block; no other thread has it meanwhile."""
        with self._lock:
            if self._closed:
                raise ArtifactError(f"{self.path}: its index was closed; open it again")
            connection = self._open_connection()
            if not self._schema_known:
                self._check_schema(connection)
            yield connection

    def damaged(self, what: str) -> ArtifactError:
        """Return the error that says what is damaged."""
        return ArtifactError(f"{self.path}: is damaged ({what}); make the index again")

    def try_disconnect(self) -> bool:
        """Release the descriptor until the next query, unless one is running."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._disconnect()
        finally:
            self._lock.release()
        return True

    def _disconnect(self) -> None:
        """Close the connection, if there is one; called with the lock held."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def _in_memory(self) -> bool:
        """Return whether the file is so small that its bytes are read from memory."""
        return self._file is not None and len(self._file.content) < SMALL

    def _open_connection(self) -> sqlite3.Connection:
        """Return the open connection, or open one; called with the lock held."""
        if self._connection is None:
            if self._in_memory:
                self._connection = self._from_memory()
            else:
                _open_files.make_room()
                self._connection = self._connect()
        if not self._in_memory:
            _open_files.used(self)
        return self._connection

    def _from_memory(self) -> sqlite3.Connection:
        """Open a copy of the file's bytes, in memory or mapped, which needs no descriptor."""
        assert self._file is not None
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        connection.deserialize(self._file.content.tobytes())
        return connection

    def _connect(self) -> sqlite3.Connection:
        """Open the file read-only, or its mapped bytes where a writer has removed it."""
        try:
            return sqlite3.connect(
                f"{self.path.resolve().as_uri()}?mode=ro&immutable=1",
                uri=True, check_same_thread=False,
            )  # fmt: skip
        except sqlite3.Error as error:
            # A writer has removed the shard since it was opened: its bytes are mapped still.
            if self._file is not None and not self.path.exists():
                _log.info("%s: was removed by a writer; it is read from memory", self.path)
                return self._from_memory()
            raise ArtifactError(
                f"{self.path}: cannot be opened ({error}); too many files may be open: close other "
                "indexes, or raise `ulimit -n`"
            ) from error

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        """Refuse what is no plain table: a stranger's view or virtual table may run anything."""
        connection.execute("PRAGMA trusted_schema=OFF")
        others = connection.execute(
            "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index') "
            "OR sql LIKE 'CREATE VIRTUAL%'"
        ).fetchall()
        if others:
            raise self.damaged("it holds more than plain tables")
        self._schema_known = True


class _OpenFiles:
    """Keeps the files that are open, the least recently used first, below `CONNECTIONS`.

    A file's lock may be held when this one's is taken, so files are only ever tried here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[int, weakref.ref[RecordFile]] = {}

    @property
    def room(self) -> bool:
        """Return whether another may be opened without closing one."""
        with self._lock:
            return len(self._files) < CONNECTIONS

    def used(self, file: RecordFile) -> None:
        """Make `file` the most recently used."""
        key = id(file)
        with self._lock:
            known = self._files.pop(key, None)
            if known is None or known() is not file:
                known = weakref.ref(file, lambda _: self._files.pop(key, None))
            self._files[key] = known

    def forget(self, file: RecordFile) -> None:
        """Count `file` no more."""
        with self._lock:
            self._files.pop(id(file), None)

    def make_room(self) -> None:
        """Close those least recently used until another may be opened."""
        with self._lock:
            for key, known in list(self._files.items()):
                if len(self._files) < CONNECTIONS:
                    break
                file = known()
                # One that is being read stays open: for a moment there is one more.
                if file is None or file.try_disconnect():
                    self._files.pop(key, None)


_open_files = _OpenFiles()
