"""The photos of a shard's items, in an SQLite file: where each is, and a small JPEG where kept.

position   INTEGER  of the item in its shard
root       INTEGER  of the index's roots, from 0; null where only the JPEG is known
place               a file's path in the root, or a position in the dataset that the root is
jpeg       BLOB     the small photo; null where none is kept
checksum   INTEGER  XXH3-64 of the other columns, a BLOB by its XXH3-128
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from hficma.artifacts.closing import Closing
from hficma.data.photo_places import Place

from .checksums import CheckedFile
from .record_file import RecordFile, row_checksum

FILE = "photos.sqlite"
LARGEST_JPEG = 1 << 20
"""Bytes that a small photo may have; one of 256 pixels has about 10 KB, of pure noise 60 KB."""
_BATCH = 500
"""Rows of one statement."""

_SCHEMA = """
CREATE TABLE photos (position INTEGER PRIMARY KEY, root INTEGER, place, jpeg BLOB,
                     checksum INTEGER NOT NULL);
"""


class PhotoRow(NamedTuple):
    """What is known of one item's photo."""

    root: int | None
    """Of the index's roots, from 0."""
    place: Place | None
    """Within the root."""
    jpeg: bytes | None
    """The small photo; None where none is kept."""


class PhotoCounts(NamedTuple):
    """How many photos a shard knows."""

    remembered: int
    """Photos of which the place is known."""
    kept: int
    """Photos that lie in the shard, small."""


class PhotoWriter:
    """Writes the photos of a shard, in the order of its items."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        # As the records: a shard is built beside its place and renamed.
        self._connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _SCHEMA)
        self._connection.execute("BEGIN")
        self.counts = PhotoCounts(0, 0)

    def append(self, first: int, photos: Sequence[PhotoRow | None]) -> None:
        """Write what is known of the next items' photos.

        Args:
            first: position of the first item in its shard.
            photos: of each item; None for one without.
        """
        rows = []
        for position, photo in enumerate(photos, first):
            if photo is None:
                continue
            rows.append((position, *photo, _checksum(position, photo)))
            self.counts = PhotoCounts(
                self.counts.remembered + (photo.place is not None),
                self.counts.kept + (photo.jpeg is not None),
            )
        self._connection.executemany("INSERT INTO photos VALUES (?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Write what is left; the file is complete after this."""
        self._connection.execute("COMMIT")
        self._connection.close()

    def abandon(self) -> None:
        """Release the file; the shard is thrown away."""
        self._connection.close()


class PhotoFile(Closing):
    """The photos of a shard, for reading from any thread; every row is compared as it is read.

    Args:
        path: of the SQLite file.
        file: its bytes, and what to compare them with.
    """

    def __init__(self, path: Path, file: CheckedFile) -> None:
        self._file = RecordFile(path, file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def rows(self, positions: Iterable[int]) -> Mapping[int, PhotoRow]:
        """Return what is known of photos by position; items without one are left out.

        Args:
            positions: of items in the shard.

        Raises:
            ArtifactError: a row is not as it was written.
        """
        remaining = list(positions)
        photos = {}
        for start in range(0, len(remaining), _BATCH):
            batch = remaining[start : start + _BATCH]
            marks = ",".join("?" * len(batch))
            statement = (
                f"SELECT position, root, place, jpeg, checksum FROM photos "
                f"WHERE position IN ({marks})"
            )
            for position, *columns, checksum in self._file.query(
                statement, batch, rows_checked=True
            ):
                photo = PhotoRow(*columns)
                if not _is_row(photo) or _checksum(position, photo) != checksum:
                    raise self._file.damaged(f"the photo at {position} is not as it was written")
                photos[position] = photo
        return photos


def _checksum(position: int, photo: PhotoRow) -> int:
    """Return the checksum of a row."""
    jpeg = None if photo.jpeg is None else xxhash.xxh3_128_hexdigest(photo.jpeg)
    return row_checksum(position, photo.root, photo.place, jpeg)


def _is_row(photo: tuple[Any, ...]) -> bool:
    """Return whether columns are of the types that are written: SQLite stores any in any."""
    root, place, jpeg = photo
    if not isinstance(root, int | None) or not isinstance(place, str | int | None):
        return False
    return jpeg is None or (isinstance(jpeg, bytes) and len(jpeg) <= LARGEST_JPEG)
