"""What an index keeps of each item for re-ranking: levels, precisions, how they are stored.

A side (see `hficma.model.similarity`) is a set of named arrays. Some have a row a token, `table`
has H rows a token (an item's block is (H, n, d)), `mean` and the global vector a row an item.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..files.ragged import Array, Rows, StoredRows, offsets_of, ragged, raw_rows

Level = Literal["tokens", "projections", "tables"]
Precision = Literal["fp32", "fp16", "int8"]
Role = Literal["image", "recipe"]

LEVELS: dict[Level, tuple[str, ...]] = {
    "tokens": ("tokens",),
    "projections": ("query", "key", "value", "gate", "fuse", "gate_bias", "mean"),
    "tables": ("query", "key", "value", "gate", "fuse", "gate_bias", "mean", "table"),
}
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
SCALE = ".scale"
"""Behind an int8 array's name: the file of its rows' scales."""
NARROW = ("gate_bias", "mean")
"""Arrays that stay in fp32: they are a hundredth of a side."""

PRECISION_DTYPES: dict[Precision, str] = {"fp32": "<f4", "fp16": "<f2", "int8": "|i1"}
"""Of the wide arrays."""


class RaggedEncodings(NamedTuple):
    """Items of one role, padded to the longest of them."""

    lengths: npt.NDArray[np.int64]
    """(N,) tokens that are not padding."""
    arrays: Mapping[str, Array]
    """Arrays of one level, (N, n, d), (N, n), (N, d), `table` (N, H, n, d); float32."""


class QuantisationError(NamedTuple):
    """What storing took from an array: sums over all its values."""

    squared: float
    """Σ (stored - value)²."""
    energy: float
    """Σ value²."""
    largest: float
    """max |stored - value|."""

    def joined(self, other: QuantisationError) -> QuantisationError:
        """Of both parts together."""
        return QuantisationError(
            self.squared + other.squared,
            self.energy + other.energy,
            max(self.largest, other.largest),
        )

    @property
    def relative(self) -> float:
        """Root mean square error over root mean square value."""
        return float(np.sqrt(self.squared / self.energy)) if self.energy else 0.0


NO_ERROR = QuantisationError(0.0, 0.0, 0.0)


def rows_of(encodings: RaggedEncodings, name: str) -> Array:
    """The rows of one array of all items, as they are stored."""
    padded = encodings.arrays[name]
    if name == "mean":
        return padded
    if name != "table":
        return ragged(padded, encodings.lengths)
    # (N, H, n, d): heads stay outside, so that an item's block is what a product reads.
    count, heads, size, width = padded.shape
    return ragged(padded.reshape(count * heads, size, width), np.repeat(encodings.lengths, heads))


def rows_a_token(name: str, heads: int) -> int:
    """Rows that one token has in an array; 0 where rows belong to items."""
    return {"mean": 0, "table": heads}.get(name, 1)


def quantise(
    rows: npt.NDArray[np.float32], precision: Precision
) -> tuple[Array, npt.NDArray[np.float32] | None, QuantisationError]:
    """Rows as they are stored.

    Args:
        rows: (n, d) float32.
        precision: `int8` scales each row by its largest value.

    Returns:
        rows in the precision's dtype, scales (n,) for int8, and the error made.
    """
    if precision == "fp32":
        return rows, None, NO_ERROR
    scales = None
    if precision == "fp16":
        stored = rows.clip(-65504.0, 65504.0).astype(np.float16)
    else:
        scales = np.abs(rows).max(axis=-1, initial=0.0) / np.float32(127)
        scales = np.where(scales > 0, scales, np.float32(1)).astype(np.float32)
        stored = np.rint(rows / scales[:, None]).astype(np.int8)
    lost = dequantise(stored, scales) - rows
    error = QuantisationError(
        float(np.square(lost, dtype=np.float64).sum()),
        float(np.square(rows, dtype=np.float64).sum()),
        float(np.abs(lost).max(initial=0.0)),
    )
    return stored, scales, error


def dequantise(
    stored: Array,
    scales: npt.NDArray[np.float32] | None,
    out: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Stored rows (..., d) with their scales (...) to float32."""
    if out is None:
        out = np.empty(stored.shape, dtype=np.float32)
    if scales is not None:
        np.multiply(stored, scales[..., None], out=out)
    elif stored.dtype == np.float16:
        _widen(stored, out)
    else:
        np.copyto(out, stored)
    return out


def _widen(half: npt.NDArray[np.float16], out: npt.NDArray[np.float32]) -> None:
    """float16 to float32 by integer shifts, several times faster than numpy's own cast.

    The bits of |x| shifted by 13 are those of |x| 2^-112 in float32, subnormals included.
    """
    bits = half.view(np.int16)
    wide = out.view(np.int32)
    np.copyto(wide, bits)
    # The sign is extended into the upper half: keep bit 31 and the 15 bits of the value.
    wide <<= 13
    wide &= np.int32(-0x70000000 - 0x2000)
    out *= np.float32(2.0**112)


class StoredEncodings:
    """Items at one level, ragged, as stored: in a shard's files or in memory.

    Args:
        lengths: (N,) tokens of each item.
        arrays: of one level by name, with scales beside int8 ones; rows as `rows_of` gives them.
            Those of files are compared with their checksums before they are first read.
        heads: H.
    """

    def __init__(
        self, lengths: npt.NDArray[np.int64], arrays: Mapping[str, Rows], heads: int
    ) -> None:
        self.lengths = lengths
        self.arrays = arrays
        self.heads = heads
        self._offsets = offsets_of(lengths)
        self._files = {n: a for n, a in arrays.items() if isinstance(a, StoredRows)}
        # One look for a whole item, of all its arrays: a warm search pays next to nothing.
        self._checked = np.full(len(lengths), not self._files)

    @property
    def level(self) -> Level:
        """Of the arrays."""
        return next(level for level, names in reversed(LEVELS.items()) if names[-1] in self.arrays)

    def rows(self, name: str, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Numbers of the rows that items have in an array, item after item."""
        each = rows_a_token(name.removesuffix(SCALE), self.heads)
        if each == 0:
            return positions
        counts = self.lengths[positions] * each
        first = np.repeat(self._offsets[positions] * each, counts)
        return first + np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)

    def padded_rows(
        self, name: str, positions: npt.NDArray[np.int64], size: int
    ) -> npt.NDArray[np.int64]:
        """As `rows`, each item padded to `size` tokens by repeating its last one."""
        if name == "mean":
            return positions
        lengths = self.lengths[positions]
        tokens = np.minimum(np.arange(size), lengths[:, None] - 1)
        if name != "table":
            return (self._offsets[positions, None] + tokens).ravel()
        blocks = np.arange(self.heads)[:, None] * lengths[:, None, None] + tokens[:, None]
        return (self._offsets[positions, None, None] * self.heads + blocks).ravel()

    def check(self, positions: npt.NDArray[np.int64]) -> None:
        """Compare what of items (m,) was not compared before with its checksums.

        Raises:
            ArtifactError: something is not as it was written.
        """
        if self._checked[positions].all():
            return
        items = positions[~self._checked[positions]]
        for name, rows in self._files.items():
            each = rows_a_token(name.removesuffix(SCALE), self.heads)
            if each:
                rows.check_runs(self._offsets[items] * each, self._offsets[items + 1] * each)
            else:
                rows.check_runs(items, items + 1)
        self._checked[items] = True

    def gather(
        self,
        positions: npt.NDArray[np.int64],
        size: int,
        out: Mapping[str, npt.NDArray[np.float32]],
    ) -> None:
        """Copy items into padded arrays, in float32; padding repeats the item's last token.

        Padding is masked wherever sides are read, so it only has to be finite.

        Args:
            positions: (m,).
            size: tokens an item is padded to.
            out: array to its place, (m, size, d) and so on, contiguous.

        Raises:
            ArtifactError: an item is not as it was written.
        """
        self.check(positions)
        # Arrays with as many rows a token share their row numbers.
        known: dict[int, npt.NDArray[np.int64]] = {}
        for name, place in out.items():
            stored = raw_rows(self.arrays[name])
            each = rows_a_token(name, self.heads)
            if each not in known:
                known[each] = self.padded_rows(name, positions, size)
            rows = known[each]
            flat = place.reshape(len(rows), *stored.shape[1:])
            if stored.dtype == np.float32:
                np.take(stored, rows, axis=0, out=flat, mode="clip")
            else:
                scales = self.arrays.get(name + SCALE)
                dequantise(stored[rows], None if scales is None else raw_rows(scales)[rows], flat)


class ItemArrays(NamedTuple):
    """Items that lie together: a shard's, or a batch's in memory."""

    vectors: Rows
    """(N, D_g) exact global vectors, float32."""
    encodings: StoredEncodings | None
    """Of the same items; None without a local part."""


def shape_of(name: str, encodings: StoredEncodings, count: int, size: int) -> tuple[int, ...]:
    """Return the shape of an array of `count` items padded to `size` tokens, for `gather`."""
    row = encodings.arrays[name].shape[1:]
    if name == "mean":
        return (count, *row)
    return (count, encodings.heads, size, *row) if name == "table" else (count, size, *row)


def bytes_a_token(level: Level, precision: Precision, width: int, heads: int) -> int:
    """Bytes of storage for one token, without what belongs to the item."""
    wide = [name for name in LEVELS[level] if name not in NARROW]
    rows = sum(rows_a_token(name, heads) for name in wide)
    row_bytes = width * int(np.dtype(PRECISION_DTYPES[precision]).itemsize) + 4 * (
        precision == "int8"
    )
    return rows * row_bytes + 4 * ("gate_bias" in LEVELS[level])
