"""Arrays of many items of different lengths: written as they come, read as memory maps."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hficma.closing import Closing
from hficma.errors import ArtifactError

Array = npt.NDArray[Any]
"""Of the dtype that the context says."""


class Layout(NamedTuple):
    """How the bytes of a file become an array."""

    dtype: str
    """As numpy writes it, little-endian: `<f4`, `<f2`, `|i1`, `<i8`."""
    shape: tuple[int, ...]
    """With the rows first."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"dtype": self.dtype, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Layout:
        """Read what `to_json` wrote."""
        return cls(record["dtype"], tuple(record["shape"]))


class ArrayFile(Closing):
    """A file of rows that grows by appending and hashes itself on the way."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
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

    def close(self) -> None:
        """Write what is buffered."""
        self._file.close()

    @property
    def layout(self) -> Layout:
        """What was written so far."""
        assert self._layout is not None
        return self._layout

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._digest.hexdigest()


def map_array(path: Path, layout: Layout) -> Array:
    """Map a file that `ArrayFile` wrote.

    Raises:
        ArtifactError: the file has not the length that its layout says.
    """
    dtype = np.dtype(layout.dtype)
    wanted = int(np.prod(layout.shape)) * dtype.itemsize
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: is missing; make the index again") from error
    if size != wanted:
        raise ArtifactError(
            f"{path}: is damaged ({size} bytes, not {wanted}); make the index again"
        )
    if wanted == 0:
        return np.empty(layout.shape, dtype)
    # As a plain ndarray: the subclass would check itself at every slice.
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=layout.shape))


def offsets_of(lengths: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Lengths (N,) to where each item starts (N + 1,); the last is the sum."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def ragged(padded: Array, lengths: Sequence[int] | npt.NDArray[np.int64]) -> Array:
    """Padded (N, n, ...) to the rows of all items, one item after the other."""
    kept = np.arange(padded.shape[1]) < np.asarray(lengths)[:, None]
    return np.ascontiguousarray(padded[kept])
