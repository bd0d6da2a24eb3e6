"""Remembers digests of files on this machine, so that a file is read whole once and not again.

Two parts of the program need that: caches that are keyed by the content of photos, and indexes
whose files are compared with their checksums. Both ask what was known of a file that is, as far as
the system can tell, still the same: its device, inode, size and times. A photo that has not changed
costs a look at these, not its bytes: 1.4 s for 100,000 on two busy cores.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from .workspace import Workspace

_log = logging.getLogger("hficma")

FILE = "content.sqlite"
"""In the workspace's cache; may be removed at any time, and every file is read again then."""
SETTLED_NS = 2_000_000_000
"""A file that changed later than this is not remembered: one tick of the file system's clock could
hold a further change, which its size and times would not show."""

Purpose = Literal["caches", "index"]
"""Who remembers: the same file may be digested in different ways."""

_ROWS_A_QUERY = 500
"""Below the variables that any SQLite takes in one statement."""
_BUSY_SECONDS = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS digests (
    purpose TEXT NOT NULL, file TEXT NOT NULL, stamp TEXT NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (purpose, file)
) WITHOUT ROWID
"""


class FileIdentity(NamedTuple):
    """What tells a file's present content from what was there before, as the system knows it."""

    device: int
    inode: int
    size: int
    """Bytes."""
    modified: int
    """mtime in nanoseconds."""
    changed: int
    """ctime in nanoseconds: unlike mtime, `touch -d` and `cp -p` do not set it back."""

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        """Return the identity of the file that a status is of."""
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )

    @property
    def settled(self) -> bool:
        """Whether a further change would show in the times."""
        return time.time_ns() - max(self.modified, self.changed) > SETTLED_NS

    @property
    def _key(self) -> str:
        """Which file it is, under whatever names; in text, for inodes may need 64 bits or more."""
        return f"{self.device} {self.inode}"

    @property
    def _stamp(self) -> str:
        """Which content it has."""
        return f"{self.size} {self.modified} {self.changed}"


class FileMemory:
    """The digests of files that this machine has read, in a workspace's cache.

    Where the memory cannot be read or written, that is logged once and every file is read again:
    slower, and just as right. Safe to share between threads and processes.

    Args:
        purpose: whose digests these are; others are not seen.
        cache: the workspace's cache folder; None takes the default workspace's.
    """

    def __init__(self, purpose: Purpose, cache: Path | None = None) -> None:
        self._purpose = purpose
        self._file = (Workspace.default().cache if cache is None else cache) / FILE
        self._lock = threading.Lock()
        self._all: dict[str, tuple[str, str]] | None = None
        """File to (stamp, digest), of everything remembered for the purpose, once it was read."""
        self._complained = False

    def digest_of(self, identity: FileIdentity) -> str | None:
        """Return what is remembered of one file, or None.

        The first call reads all that is remembered for the purpose: whoever asks for single files
        (an index, for each of its files) does so a thousand times.
        """
        with self._lock:
            if self._all is None:
                self._all = dict(self._read("SELECT file, stamp, digest FROM digests "
                                            "WHERE purpose = ?", (self._purpose,)))  # fmt: skip
            stamp, digest = self._all.get(identity._key, ("", ""))
        return digest if stamp == identity._stamp else None

    def recall(self, identities: Iterable[FileIdentity]) -> dict[FileIdentity, str]:
        """Return what is remembered of many files, without those of which nothing is."""
        by_key = {identity._key: identity for identity in identities}
        keys = list(by_key)
        known: dict[FileIdentity, str] = {}
        for start in range(0, len(keys), _ROWS_A_QUERY):
            part = keys[start : start + _ROWS_A_QUERY]
            marks = ",".join("?" * len(part))
            statement = (
                "SELECT file, stamp, digest FROM digests "
                f"WHERE purpose = ? AND file IN ({marks})"
            )  # fmt: skip
            for key, (stamp, digest) in self._read(statement, (self._purpose, *part)):
                if stamp == by_key[key]._stamp:
                    known[by_key[key]] = digest
        return known

    def remember(self, digests: Mapping[FileIdentity, str]) -> None:
        """Remember the digests of files, but of those that have only just changed."""
        rows = {
            identity._key: (identity._stamp, digest)
            for identity, digest in digests.items()
            if identity.settled
        }
        if not rows:
            return
        with self._lock:
            if self._all is not None:
                self._all |= rows
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._store() as store:
                store.executemany(
                    "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?)",
                    [(self._purpose, key, *row) for key, row in rows.items()],
                )
        except (sqlite3.Error, OSError) as error:
            self._set_aside(error)

    def forget(self) -> None:
        """Remember nothing for the purpose: every file is read again when it is used next."""
        with self._lock:
            self._all = None
        if not self._file.is_file():
            return
        try:
            with self._store() as store:
                store.execute("DELETE FROM digests WHERE purpose = ?", (self._purpose,))
        except sqlite3.Error as error:
            self._set_aside(error)
            self._file.unlink(missing_ok=True)

    def _read(
        self, statement: str, values: tuple[str, ...]
    ) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield (file, (stamp, digest)) of the rows of a statement."""
        if not self._file.is_file():
            return
        try:
            with self._store() as store:
                rows = store.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            self._set_aside(error)
            return
        for key, stamp, digest in rows:
            yield key, (stamp, digest)

    @contextmanager
    def _store(self) -> Iterator[sqlite3.Connection]:
        """Open the memory for a block, which is one transaction."""
        with closing(sqlite3.connect(self._file, timeout=_BUSY_SECONDS)) as store:
            # A crash may cost what was just remembered, which is nothing of worth; waiting for the
            # disk at each of a thousand files would.
            store.execute("PRAGMA synchronous=OFF")
            with store:
                store.execute(_SCHEMA)
                yield store

    def _set_aside(self, error: Exception) -> None:
        """Say once that the memory does not serve, and remove it where it is damaged."""
        if not self._complained:
            self._complained = True
            _log.warning("%s: is left aside (%s); files are read again each time",
                         self._file, error)  # fmt: skip
        # An operational error (locked, read only, no space) is not the file's fault.
        damaged = isinstance(error, sqlite3.DatabaseError)
        if damaged and not isinstance(error, sqlite3.OperationalError):
            self._file.unlink(missing_ok=True)
