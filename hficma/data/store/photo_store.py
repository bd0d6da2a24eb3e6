"""Stores the photos of a dataset that is being imported: an LMDB that also records its progress.

One file of a million photos is copied and hashed faster than a million files, and a transaction
keeps photos and progress in step. `layout.py` draws its keys.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...artifacts.closing import Closing
from ...errors import ArtifactError, InputError
from ...limits import MEGABYTE
from ..layout import DONE, NOTE, note_key, photo_key
from ..lmdb_files import whole_size

FIRST_MAP = 64 * MEGABYTE
"""Bytes of address space at the start, doubled whenever the photos reach its end. LMDB wants to
know the largest size its file may ever have; where addresses are limited (`ulimit -v`, containers,
32 bits), asking for all that could be needed fails."""

Results = list[tuple[int, bytes | InputError]]
"""(position of the recipe, its photo's bytes or why there are none), in the recipes' order."""


class PhotoStore(Closing):
    """Stores photos in batches, each in one transaction with the progress that it makes.

    A transaction is on the disk when it ends, and so are the photos that its progress counts.

    Args:
        path: the LMDB's folder, which is made where it is missing.

    Raises:
        InputError: what is there is no whole LMDB.
        ArtifactError: there is too little address space.
    """

    def __init__(self, path: Path) -> None:
        import lmdb

        file = path / "data.mdb"
        size = whole_size(file) if file.exists() and file.stat().st_size else 0
        self._path = path
        map_size = max(FIRST_MAP, 2 * size)
        try:
            self._store = lmdb.open(str(path), map_size=map_size, subdir=True)
        except lmdb.MemoryError as error:
            raise _too_little(path, map_size) from error

    def close(self) -> None:
        """See the base."""
        self._store.close()

    @property
    def done(self) -> int:
        """Return the number of recipes whose photos are stored."""
        with self._store.begin() as transaction:
            return int.from_bytes(transaction.get(DONE, b"\0"), "big")

    def put(self, results: Results, *, done: int) -> None:
        """Store a batch of photos of whole recipes.

        Args:
            results: all photos of these recipes.
            done: the number of recipes whose photos are then stored, from the first one on.

        Raises:
            ArtifactError: there is too little address space.
            OSError: the disk is full.
        """
        import lmdb

        while True:
            try:
                self._put(results, done)
            except lmdb.MapFullError:  # the transaction was rolled back, so the batch is put again
                self._grow()
            except lmdb.Error as error:
                # What the disk takes only in part is EIO to LMDB, whatever the disk says.
                size = sum(len(photo) for _, photo in results if isinstance(photo, bytes))
                full = shutil.disk_usage(self._path).free < size + MEGABYTE
                if os.strerror(errno.EIO) in str(error) and full:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
                raise
            else:
                return

    def _grow(self) -> None:
        """Double the map; no transaction may be open."""
        import lmdb

        map_size = 2 * self._store.info()["map_size"]
        try:
            self._store.set_mapsize(map_size)
        except lmdb.MemoryError as error:
            raise _too_little(self._path, map_size) from error

    def _put(self, results: Results, done: int) -> None:
        """Store a batch in one transaction."""
        # Photos of a recipe are numbered by those that could be read, without gaps.
        numbers: dict[int, int] = {}
        with self._store.begin(write=True) as transaction:
            for position, (index, result) in enumerate(results):
                if isinstance(result, InputError):
                    note = str(result).encode(errors="surrogatepass")
                    transaction.put(note_key(index, position), note)
                else:
                    number = numbers.get(index, 0)
                    transaction.put(photo_key(index, number), result)
                    numbers[index] = number + 1
            transaction.put(DONE, done.to_bytes(8, "big"))

    def counts_and_notes(self, recipes: int) -> tuple[npt.NDArray[np.uint8], list[str]]:
        """Return the number of photos of each recipe, and why others are missing.

        Args:
            recipes: the number of recipes, M.

        Returns:
            uint8 (M,), and a line for each photo that could not be read.
        """
        counts = np.zeros(recipes, dtype=np.uint8)
        notes: list[str] = []
        with self._store.begin() as transaction:
            cursor: Any = transaction.cursor()
            for key in cursor.iternext(values=False):
                if key.startswith(NOTE):
                    notes.append(transaction.get(key, b"").decode(errors="surrogatepass"))
                elif key != DONE:  # a photo's: bytes 1 to 8 are its recipe
                    counts[int.from_bytes(key[1:9], "big")] += 1
        return counts, notes


def _too_little(path: Path, size: int) -> ArtifactError:
    return ArtifactError(
        f"{path}: needs {size // MEGABYTE:,} MB of address space, more than this process may "
        "have; raise the limit (`ulimit -v`) and run the same command again"
    )
