"""Sequences of ids of different lengths, end to end in one array, which a file holds if it is long.

    values    a a a b c c c c ...     int32 (sum(L),)
    offsets   0 3 4 8 ...             int64 (N + 1,): where each begins, and the last one ends

A million recipes as a million small arrays would take ten times the memory of their ids.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Sequence
from typing import overload

import numpy as np
import xxhash

from hficma.types import Array, Ids, Lengths, Offsets, Positions

MAPPED_FROM = 64_000_000
"""Bytes from which on an array lies in a file, whose pages the system drops where memory is
short."""


class Ragged(Sequence[Ids]):
    """N sequences of ids.

    Args:
        values: int32 (sum(L),).
        offsets: int64 (N + 1,).
    """

    def __init__(self, values: Array, offsets: Offsets) -> None:
        self._values, self._offsets = values, offsets

    def __len__(self) -> int:
        """Return N."""
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Ids: ...
    @overload
    def __getitem__(self, index: slice) -> list[Ids]: ...
    def __getitem__(self, index: int | slice) -> Ids | list[Ids]:
        """Return a sequence (L,), int64."""
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._values[self._offsets[index] : self._offsets[index + 1]].astype(np.int64)

    @property
    def lengths(self) -> Lengths:
        """Return the length of each sequence (N,)."""
        return np.diff(self._offsets)


class RaggedBuilder:
    """Collects sequences of ids one by one."""

    def __init__(self) -> None:
        self._offsets = array("q", [0])
        # In memory while it is short, then in a file without a name, which ends with the process.
        self._values = tempfile.SpooledTemporaryFile(max_size=MAPPED_FROM)  # noqa: SIM115

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._offsets) - 1

    def append(self, ids: Ids) -> None:
        """Add a sequence (L,) of ids below 2^31."""
        self._values.write(ids.astype(np.int32).tobytes())
        self._offsets.append(self._offsets[-1] + len(ids))

    def build(self) -> Ragged:
        """Return the sequences; nothing can be added then."""
        count = self._offsets[-1]
        with self._values as file:
            if 4 * count > MAPPED_FROM:
                file.flush()
                values: Array = np.memmap(file, np.int32, "r", shape=(count,))
            else:
                file.seek(0)
                values = np.frombuffer(file.read(), np.int32)
        return Ragged(values, np.frombuffer(self._offsets, np.int64))


class DistinctSequences:
    """Tells which sequences came before, of which it remembers 16 bytes each.

    Attributes:
        builder: each distinct sequence once, in the order in which they first came.
    """

    def __init__(self) -> None:
        self.builder = RaggedBuilder()
        self._rows: dict[bytes, int] = {}

    def rows(self, sequences: Sequence[Ids]) -> Positions:
        """Return the rows of sequences (S,), counted from 1, adding those that are new."""
        rows = np.empty(len(sequences), dtype=np.int64)
        for position, ids in enumerate(sequences):
            # Of so long a digest no two sequences of any dataset share one.
            key = xxhash.xxh3_128_digest(ids.tobytes())
            row = self._rows.setdefault(key, len(self.builder) + 1)
            if row > len(self.builder):
                self.builder.append(ids)
            rows[position] = row
        return rows


def scratch_array(shape: tuple[int, ...]) -> Array:
    """Return an empty float32 array: in memory, or if it is large in a file without a name."""
    if 4 * int(np.prod(shape)) <= MAPPED_FROM:
        return np.empty(shape, dtype=np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=shape)
