"""The photos of a dataset while it is written: an LMDB that also knows how far it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hficma.closing import Closing
from hficma.errors import InputError

from .layout import DONE, NOTE, note_key, photo_key

MAP_SIZE = 1 << 40
"""Address space; the file takes what the photos take."""

Results = list[tuple[int, bytes | InputError]]
"""(recipe, its photo's bytes or why there are none), in the recipes' order."""


class PhotoStore(Closing):
    """Photos in batches, each in one transaction with the progress that it makes."""

    def __init__(self, path: Path) -> None:
        import lmdb

        self._store = lmdb.open(str(path), map_size=MAP_SIZE, subdir=True)

    def close(self) -> None:
        """See the base."""
        self._store.close()

    @property
    def done(self) -> int:
        """Recipes whose photos are stored."""
        with self._store.begin() as transaction:
            return int.from_bytes(transaction.get(DONE, b"\0"), "big")

    def put(self, results: Results, *, done: int) -> None:
        """Store a batch of photos of whole recipes, and that so many recipes are done."""
        numbers: dict[int, int] = {}
        with self._store.begin(write=True) as transaction:
            for position, (index, result) in enumerate(results):
                if isinstance(result, InputError):
                    transaction.put(note_key(index, position), str(result).encode())
                else:
                    number = numbers.get(index, 0)
                    transaction.put(photo_key(index, number), result)
                    numbers[index] = number + 1
            transaction.put(DONE, done.to_bytes(8, "big"))

    def counts_and_notes(self, recipes: int) -> tuple[npt.NDArray[np.uint8], list[str]]:
        """Photos of each recipe, (recipes,), and why others are missing."""
        counts = np.zeros(recipes, dtype=np.uint8)
        notes: list[str] = []
        with self._store.begin() as transaction:
            cursor: Any = transaction.cursor()
            for key in cursor.iternext(values=False):
                if key.startswith(NOTE):
                    notes.append(transaction.get(key, b"").decode())
                elif key != DONE:
                    counts[int.from_bytes(key[1:9], "big")] += 1
        return counts, notes
