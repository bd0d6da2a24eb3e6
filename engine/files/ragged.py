"""Ragged arrays: the rows of many items of different lengths, written as they come, read mapped.

lengths   2           3               1
rows      a0  a1      b0  b1  b2      c0        no padding: sum(lengths) rows
offsets   0           2               5     6   item i is rows[offsets[i] : offsets[i + 1]]
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from hficma.artifacts.closing import Closing
from hficma.errors import ArtifactError
from hficma.types import Array, Lengths, Offsets, Positions

from .checksums import BlockSums, CheckedFile, Checksums
from .file_bytes import Content, open_bytes

FINITE_BLOCK_BYTES = 1 << 20
"""Bytes looked through at once for numbers that are not finite: they stay in a core's cache."""


class Layout(NamedTuple):
    """How the bytes of a file become an array."""

    dtype: str
    """As numpy writes it, little-endian: `<f4`, `<f2`, `|i1`, `<i8`."""
    shape: tuple[int, ...]
    """The rows are the first axis."""

    def to_json(self) -> dict[str, Any]:
        """Return the layout as JSON values."""
        return {"dtype": self.dtype, "shape": list(self.shape)}

    @property
    def nbytes(self) -> int:
        """Return the bytes of the file."""
        # In Python's integers: a shape out of a file may be anything.
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def view(self, content: Content) -> Array:
        """Return a file's bytes as the array."""
        return content.view(np.dtype(self.dtype)).reshape(self.shape)


class ArrayFile(Closing):
    """A file of rows that is written by appending, and hashed on the way."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        self._sums = BlockSums()
        self._layout: Layout | None = None

    def append(self, rows: Array) -> None:
        """Write rows; every call brings the same dtype and the same shape behind the rows."""
        rows = np.ascontiguousarray(rows)
        layout = self._layout or Layout(rows.dtype.str, (0, *rows.shape[1:]))
        assert (rows.dtype.str, rows.shape[1:]) == (layout.dtype, layout.shape[1:])
        self._layout = Layout(layout.dtype, (layout.shape[0] + len(rows), *layout.shape[1:]))
        content = rows.data.cast("B") if rows.size else b""
        self._file.write(content)
        self._digest.update(content)
        self._sums.update(content)

    def close(self) -> None:
        """Write what is buffered."""
        self._file.close()

    @property
    def layout(self) -> Layout:
        """Return the dtype and shape of what was written so far."""
        assert self._layout is not None
        return self._layout

    @property
    def sums(self) -> Checksums:
        """Return the checksums of the blocks written so far."""
        return self._sums.array()

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of what was written so far, in hexadecimal."""
        return self._digest.hexdigest()


class StoredRows:
    """Rows of a shard's file, each returned after its bytes were compared with their checksums.

    Args:
        layout: of the rows.
        file: their bytes.
    """

    def __init__(self, layout: Layout, file: CheckedFile) -> None:
        self.raw = layout.view(file.content)
        """The rows as they are: only for whoever called `check_runs` or `whole` for them."""
        self.shape = self.raw.shape
        self.dtype = self.raw.dtype
        self.nbytes = self.raw.nbytes
        self._file = file
        self._row_bytes = self.nbytes // max(1, len(self.raw))
        self._checked = np.zeros(len(self.raw), dtype=bool)
        self._finite = self.dtype.kind != "f"

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, rows: slice | Positions) -> Array:
        """Return rows by their numbers, or a slice of them without a step."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self.raw))
            assert step == 1
            self.check_runs(np.array([start]), np.array([max(start, stop)]))
        elif not self._checked[rows].all():
            self.check_runs(rows, rows + 1)
            self._checked[rows] = True
        return self.raw[rows]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.whole(), dtype=dtype, copy=bool(copy))

    def check_runs(self, starts: Offsets, stops: Offsets) -> None:
        """Compare runs of rows with their checksums.

        Args:
            starts: (N,) the first row of each run.
            stops: (N,) the row behind its last.

        Raises:
            ArtifactError: they are not as they were written.
        """
        self._file.check(starts * self._row_bytes, stops * self._row_bytes)

    def whole(self) -> Array:
        """Return all rows, compared once on this machine.

        Raises:
            ArtifactError: they are not as they were written, or not all finite: whoever reads all
                of them looks for the largest score, which a NaN would be or hide.
        """
        self._file.check_all()
        if not self._finite:
            step = max(1, FINITE_BLOCK_BYTES // max(1, self._row_bytes))
            for start in range(0, len(self.raw), step):
                if not np.isfinite(self.raw[start : start + step]).all():
                    raise ArtifactError(
                        f"{self._file.path}: holds numbers that are not finite; make it again"
                    )
            self._finite = True
        return self.raw


Rows: TypeAlias = "Array | StoredRows"
"""Rows in memory, or of a file."""


def raw_rows(rows: Rows) -> Array:
    """Return rows that were compared already, as an array."""
    return rows.raw if isinstance(rows, StoredRows) else rows


def whole_rows(rows: Rows) -> Array:
    """Return all rows as an array, compared where they are of a file."""
    return rows.whole() if isinstance(rows, StoredRows) else rows


def map_array(path: Path, layout: Layout) -> Array:
    """Map a file that `ArrayFile` has just written, without comparing it with anything.

    Raises:
        ArtifactError: the file has not the length that its layout says.
    """
    return layout.view(open_bytes(path, layout.nbytes).content)


def offsets_of(lengths: npt.NDArray[np.integer[Any]]) -> Offsets:
    """Return where each item of a ragged array starts, and at the end the number of rows (N + 1,).

    Args:
        lengths: (N,) rows of each item.
    """
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def ragged(padded: Array, lengths: Sequence[int] | Lengths) -> Array:
    """Return the rows of all items, one item after the other (sum(L), ...), without padding.

    Args:
        padded: (N, L_max, ...), what counts first.
        lengths: (N,) rows of each item that count.
    """
    mask = np.arange(padded.shape[1]) < np.asarray(lengths)[:, None]  # (N, L_max)
    return np.ascontiguousarray(padded[mask])
