"""Item encodings: the arrays that an index stores of each item, so that re-ranking need not compute
them again.

An item's encoding is a set of named arrays (see `hficma.model.similarity`), of one of three levels:

    level        arrays of one item of L tokens                         computed from
    tokens       tokens (L, D)                                          photo or recipe
    projections  query, key, value, gate, fuse (L, D), gate_bias (L,),  tokens
                 mean (D,)
    tables       the projections, and table (H, L, D)                   value

A batch in memory pads its items to one L. A shard stores them ragged, in rows of D numbers, one
item after the other:

    tokens, query, ...  sum(L) rows    item 0: token 0, 1, ... | item 1: token 0, 1, ... | ...
    table               H sum(L) rows  item 0: head 0: token 0, 1, ...; head 1: ... | item 1: ...
    mean                N rows         item 0 | item 1 | ...
    gate_bias           sum(L) numbers, one a token

Beside tokens in few bits an index may keep exact ones, in float16 (`exact_tokens`), with which the
best of an answer are scored again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from hficma.types import Array, Floats, Halves, Lengths, Positions

from ..files import int4
from ..files.ragged import Layout, Rows, StoredRows, offsets_of, ragged, raw_rows

Level = Literal["tokens", "projections", "tables"]
"""How much is computed of an item beforehand; each level follows from the one before."""
EncodingPrecision = Literal["fp32", "fp16", "int8", "int4"]
"""In which encodings are stored; that of the graphs, which compute, is another choice."""
Role = Literal["image", "recipe"]
"""Which of the two an item is to the model."""

LEVELS: dict[Level, tuple[str, ...]] = {
    "tokens": ("tokens",),
    "projections": ("query", "key", "value", "gate", "fuse", "gate_bias", "mean"),
    "tables": ("query", "key", "value", "gate", "fuse", "gate_bias", "mean", "table"),
}
ENCODING_PRECISIONS: tuple[EncodingPrecision, ...] = ("fp32", "fp16", "int8", "int4")
SCALE = ".scale"
"""Suffix of an int8 or int4 array's name: the array of its rows' scales."""
EXACT_TOKENS = "exact_tokens"
"""Tokens in float16, beside those in fewer bits that every candidate is scored by."""
NARROW = ("gate_bias", "mean")
"""Arrays that are stored in fp32 always: they are a hundredth of an encoding's bytes."""

PRECISION_DTYPES: dict[EncodingPrecision, str] = {
    "fp32": "<f4", "fp16": "<f2", "int8": "|i1", "int4": "|u1",
}  # fmt: skip
"""Element types of all other arrays, the wide ones; a byte of int4 holds two numbers."""
STORED_FORMS: tuple[tuple[Level, EncodingPrecision], ...] = tuple(
    (level, precision)
    for level in reversed(LEVELS)
    for precision in ENCODING_PRECISIONS
    # Four bits suit numbers that are never negative, which of an item only tokens are.
    if precision != "int4" or level == "tokens"
)
"""What can be stored, the fastest to re-rank with first, and of one level the most exact first."""
FLOAT16_MAX = 65504.0


class BatchEncodings(NamedTuple):
    """Encodings of N items of one role in memory, padded to the longest of them."""

    lengths: Lengths
    """(N,) tokens that are not padding."""
    arrays: Mapping[str, Array]
    """Arrays of one level by name, float32: (N, L, D); `gate_bias` (N, L); `mean` (N, D); `table`
    (N, H, L, D)."""


class QuantisationError(NamedTuple):
    """How far an array's stored values are from the computed ones: sums over all values."""

    squared: float
    """Σ (stored - value)²."""
    energy: float
    """Σ value²."""
    largest: float
    """max |stored - value|."""

    def joined(self, other: QuantisationError) -> QuantisationError:
        """Return the error of two parts of an array together."""
        return QuantisationError(
            self.squared + other.squared,
            self.energy + other.energy,
            max(self.largest, other.largest),
        )

    @property
    def relative(self) -> float:
        """Return the root mean square error over the root mean square value."""
        return float(np.sqrt(self.squared / self.energy)) if self.energy else 0.0


NO_ERROR = QuantisationError(0.0, 0.0, 0.0)


def ragged_rows(encodings: BatchEncodings, name: str) -> Array:
    """Return one array of all items in the rows in which it is stored, without padding.

    Args:
        encodings: of N items.
        name: of the array.

    Returns:
        (N, D) for `mean`, (H sum(L), D) for `table`, (sum(L),) for `gate_bias`, else (sum(L), D).
    """
    padded = encodings.arrays[name]
    if name == "mean":
        return padded
    if name != "table":
        return ragged(padded, encodings.lengths)
    # Heads stay outside tokens: an item's (H, L, D) is then one block, which a product reads.
    count, heads, size, width = padded.shape
    return ragged(padded.reshape(count * heads, size, width), np.repeat(encodings.lengths, heads))


def rows_per_token(name: str, heads: int) -> int:
    """Return how many rows a token has in an array or its scales; 0 where a row is a whole item's.

    Args:
        name: of the array, or that with `SCALE`.
        heads: H.
    """
    return {"mean": 0, "table": heads}.get(name.removesuffix(SCALE), 1)


def quantise(
    rows: Floats, precision: EncodingPrecision
) -> tuple[Array, Array | None, QuantisationError]:
    """Return rows as they are stored.

    Args:
        rows: (rows, D) float32.
        precision: `int8` scales each row by its own largest value: rows differ by far more than
            the values within one. `int4` takes rows that are not negative; see `files.int4`.

    Returns:
        the rows in the precision's element type, for int8 their scales (rows,), for int4 those of
        their groups (rows, D / group), and the error.
    """
    if precision == "fp32":
        return rows, None, NO_ERROR
    stored: Array
    scales: Array | None = None
    if precision == "int4":
        stored, scales = int4.pack(rows)
    elif precision == "fp16":
        # Clipped, or a value past the largest half would be stored as infinity.
        stored = rows.clip(-FLOAT16_MAX, FLOAT16_MAX).astype(np.float16)
    else:
        # Symmetric, -127 to 127: 0 stays 0, and no offset has to be stored or added. A row of zeros
        # has the scale 1, so that nothing is divided by 0.
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


def dequantise(stored: Array, scales: Array | None, out: Floats | None = None) -> Floats:
    """Return stored rows in float32.

    Args:
        stored: (..., D) float32, float16 or int8; (..., D / 2) bytes of int4.
        scales: (...) of int8 rows, (..., D / group) of int4 ones; None for the others.
        out: (..., D) where to write them, contiguous; None makes a new array.
    """
    if out is None:
        out = np.empty((*stored.shape[:-1], row_width(stored)), dtype=np.float32)
    if stored.dtype == np.uint8:
        assert scales is not None
        int4.unpack(stored, scales, out)
    elif scales is not None:
        np.multiply(stored, scales[..., None], out=out)
    elif stored.dtype == np.float16:
        _widen(stored, out)
    else:
        np.copyto(out, stored)
    return out


def row_width(rows: Rows) -> int:
    """Return D, the numbers in each of some stored rows.

    Args:
        rows: (..., D) in any precision; (..., D / 2) bytes of int4.
    """
    width: int = rows.shape[-1]
    return 2 * width if rows.dtype == np.uint8 else width


def stored_layouts(
    name: str, precision: EncodingPrecision, rows: int, width: int
) -> dict[str, Layout]:
    """Return the layouts of a wide array as it is stored, and of its scales.

    Args:
        name: of the array.
        precision: in which it is stored.
        rows: that it has.
        width: D.
    """
    dtype = PRECISION_DTYPES[precision]
    if precision == "int4":
        groups = width // int4.group_size(width)
        return {
            name: Layout(dtype, (rows, width // 2)),
            name + SCALE: Layout("<f2", (rows, groups)),
        }
    layouts = {name: Layout(dtype, (rows, width))}
    if precision == "int8":
        layouts[name + SCALE] = Layout("<f4", (rows,))
    return layouts


def _widen(half: Halves, out: Floats) -> None:
    """Convert float16 to float32 by integer shifts, several times faster than numpy's own cast.

    Shifted by 13 bits, exponent and fraction of a half stand where float32 has its own, with an
    exponent that is too small by the difference of the two biases, 127 - 15 = 112: the value read
    is |x| 2^-112, exactly, for subnormals too.

        float16   s eeeee ffffffffff
        float32   s 000eeeee ffffffffff 0000000000000
    """
    bits = half.view(np.int16)
    wide = out.view(np.int32)
    np.copyto(wide, bits)  # copies of the sign fill the upper half
    wide <<= 13
    wide &= np.int32(-0x70000000 - 0x2000)  # 0x8fffe000: the sign, and the 15 bits of |x|
    out *= np.float32(2.0**112)


class StoredEncodings:
    """Encodings of N items as they are stored, ragged: in a shard's files or in memory.

    Args:
        lengths: (N,) tokens of each item.
        arrays: of one level by name, with scales beside int8 and int4 ones; rows as `ragged_rows`
            gives them. Those of files are compared with their checksums before they are first read.
        heads: H; 1 where there is no table.
    """

    def __init__(self, lengths: Lengths, arrays: Mapping[str, Rows], heads: int) -> None:
        self.lengths = lengths
        self.arrays = arrays
        self.heads = heads
        self.offsets = offsets_of(lengths)
        self._files = {n: a for n, a in arrays.items() if isinstance(a, StoredRows)}
        # One mark an item, for all its arrays: a warm search pays next to nothing for checking.
        self._checked = np.full(len(lengths), not self._files)

    @property
    def level(self) -> Level:
        """Return the level of the arrays, told by the array that only it has."""
        return next(level for level, names in reversed(LEVELS.items()) if names[-1] in self.arrays)

    def rows(self, name: str, positions: Positions) -> Positions:
        """Return the numbers of the rows that items have in an array, item after item.

        Args:
            name: of the array.
            positions: (K,) of the items.
        """
        each = rows_per_token(name, self.heads)
        if each == 0:
            return positions
        counts = self.lengths[positions] * each
        # first[i], first[i] + 1, ... for each item: its first row, and the place within the item.
        first = np.repeat(self.offsets[positions] * each, counts)
        return first + np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)

    def padded_rows(self, name: str, positions: Positions, size: int) -> Positions:
        """Return the numbers of the rows of items, each padded to the same number of tokens.

        Padding repeats the item's last token: it is masked wherever it is read, and a row that is
        read for the item anyway costs no further memory access.

        Args:
            name: of the array.
            positions: (K,) of the items.
            size: L, tokens to pad to.

        Returns:
            (K,) for `mean`, (K H L,) for `table`, else (K L,).
        """
        if name == "mean":
            return positions
        lengths = self.lengths[positions]
        tokens = np.minimum(np.arange(size), lengths[:, None] - 1)  # (K, L)
        if name != "table":
            return (self.offsets[positions, None] + tokens).ravel()
        # An item's rows are H runs of its own length: head h begins h lengths[i] rows in.
        blocks = np.arange(self.heads)[:, None] * lengths[:, None, None] + tokens[:, None]
        return (self.offsets[positions, None, None] * self.heads + blocks).ravel()

    def check(self, positions: Positions) -> None:
        """Compare what of some items was not compared before with its checksums.

        Args:
            positions: (K,) of the items.

        Raises:
            ArtifactError: something is not as it was written.
        """
        if self._checked[positions].all():
            return
        items = positions[~self._checked[positions]]
        for name, rows in self._files.items():
            each = rows_per_token(name, self.heads)
            if each:
                rows.check_runs(self.offsets[items] * each, self.offsets[items + 1] * each)
            else:
                rows.check_runs(items, items + 1)
        self._checked[items] = True

    def gather(
        self,
        positions: Positions,
        size: int,
        out: Mapping[str, Floats],
    ) -> None:
        """Copy items into padded arrays, in float32; padding repeats the item's last token.

        Padding is masked wherever encodings are read, so it only has to be finite.

        Args:
            positions: (K,) of the items.
            size: L, tokens that each is padded to.
            out: arrays to fill by name, of the shapes of `padded_shape`, contiguous.

        Raises:
            ArtifactError: an item is not as it was written.
        """
        self.check(positions)
        # Arrays with as many rows a token share their row numbers.
        numbers: dict[int, Positions] = {}
        for name, array in out.items():
            stored = raw_rows(self.arrays[name])
            each = rows_per_token(name, self.heads)
            if each not in numbers:
                numbers[each] = self.padded_rows(name, positions, size)
            rows = numbers[each]
            flat = array.reshape(len(rows), *array.shape[array.ndim - stored.ndim + 1 :])
            if stored.dtype == np.float32:
                # In its default mode numpy buffers `out`: all of it would be copied once more.
                np.take(stored, rows, axis=0, out=flat, mode="clip")
            else:
                scales = self.arrays.get(name + SCALE)
                dequantise(stored[rows], None if scales is None else raw_rows(scales)[rows], flat)


class ItemArrays(NamedTuple):
    """All that scoring reads of N items that lie together: a shard's, or a batch's in memory."""

    vectors: Rows
    """(N, D_g) exact global vectors, float32."""
    encodings: StoredEncodings | None
    """Of the same items; None for a model without a local part."""


def padded_shape(name: str, encodings: StoredEncodings, count: int, size: int) -> tuple[int, ...]:
    """Return the shape of an array of some items, as `StoredEncodings.gather` fills it.

    Args:
        name: of the array.
        encodings: whose items.
        count: K, the items.
        size: L, tokens that each is padded to.
    """
    stored = encodings.arrays[name]
    row = (row_width(stored),) if len(stored.shape) > 1 else ()  # a number a token has no width
    if name == "mean":
        return (count, *row)
    return (count, encodings.heads, size, *row) if name == "table" else (count, size, *row)


def bytes_per_token(level: Level, precision: EncodingPrecision, width: int, heads: int) -> int:
    """Return the bytes that a token takes in an index, without what belongs to its item.

    Args:
        level: at which items are stored.
        precision: of the wide arrays.
        width: D.
        heads: H.
    """
    layouts = [
        layout
        for name in LEVELS[level]
        if name not in NARROW
        for layout in stored_layouts(name, precision, rows_per_token(name, heads), width).values()
    ]
    return sum(layout.nbytes for layout in layouts) + 4 * ("gate_bias" in LEVELS[level])
