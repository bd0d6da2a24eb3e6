"""The encodings of an index in a GPU's memory: one array of a kind, whatever shard an item is in.

Rows lie as the shards store them, in the precision in which they are stored and without padding
(`hficma.engine.index.item_encoding` draws them), one shard behind the other. Items that do not fit
stay in the shards' mapped files and come through two staging areas behind the resident ones, of
which one is filled while the kernels read the other:

    rows     | shard 0     | shard 1       | first area | second area |
    places   | 0 1 2 3 ... | ... R - 1     | R ...      | R + S ...   |
             └────── R resident items ─────┘ S staged items each

A kernel is told an item's place, and reads there: resident or staged, its bits are the same, and so
are its scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hficma.model.similarity import FoldedItemWeights
from hficma.types import Lengths, Positions

from ..files.ragged import offsets_of
from ..index.index import Index
from ..index.item_encoding import LEVELS, NARROW, SCALE, StoredEncodings, rows_per_token
from .copying import copy_rows, send, torch_dtype
from .kernels.packed_items import PackedItems
from .staging import LENGTHS, STARTS, Staging

STAGING_BYTES = 1 << 27
"""Bytes of a staging area: 250 recipes of 20 tokens at `tables`, 3 ms over a PCIe bus."""
COPIED_BYTES = 1 << 30
"""Bytes of items that are copied at once where kernels cannot read them as they are stored."""
LEAST_STAGED = 64
"""Items of a staging area at least: as many as are scored again together, so that products have the
same shapes, and sums the same order, wherever the items lie."""
WIDE = tuple(name for name in LEVELS["projections"] if name not in NARROW)


class Part(NamedTuple):
    """A rectangle of a request, whose items lie on the device while the next one is not taken."""

    queries: slice
    candidates: slice
    places: Tensor
    """(q, c) int64: where the items lie, on the device."""
    rows: int
    """Tokens of all of them together at most: a number that few requests have another of."""


class PackedIndex:
    """The encodings of an index's items on a device, as far as they fit, and a way in for the rest.

    Args:
        index: of at least one shard, whose shards have encodings.
        heads: H of the model.
        device: where to.
        memory: bytes there that the resident items may take; staging areas come besides.
    """

    def __init__(self, index: Index, heads: int, device: torch.device, memory: int) -> None:
        stored = [shard.encodings for shard in index.shards if shard.encodings is not None]
        assert len(stored) == len(index.shards)
        self.device = device
        self.level = stored[0].level
        self.heads = heads
        self.lengths: Lengths = np.concatenate([one.lengths for one in stored])
        """(N,) tokens of each item, on the host: sizes of launches follow from them."""
        self._longest, self._shortest = int(self.lengths.max()), int(self.lengths.min())
        item_bytes, token_bytes = _bytes(stored[0])
        bytes_until = offsets_of(item_bytes + self.lengths * token_bytes)
        self.resident_items = int(np.searchsorted(bytes_until, memory, side="right")) - 1
        """R: the items before this one are on the device."""
        self.resident = int(bytes_until[self.resident_items])
        """Bytes that they take."""
        rows = offsets_of(self.lengths)
        self._arrays: dict[str, Tensor] = {}
        staged = 0
        if self.resident_items < len(self.lengths):
            longest_bytes = item_bytes + self._longest * token_bytes
            absent = len(self.lengths) - self.resident_items
            staged = max(LEAST_STAGED, min(STAGING_BYTES // longest_bytes, absent))
        for name, array in stored[0].arrays.items():
            each = rows_per_token(name, heads)
            count = rows[self.resident_items] * each if each else self.resident_items
            area = staged * (self._longest * each if each else 1)
            self._arrays[name] = torch.empty(
                (int(count) + 2 * area, *array.shape[1:]), dtype=torch_dtype(array), device=device
            )
            # Shards one behind the other, up to where memory ends.
            start = 0
            for shard in stored:
                stop = min(start + len(shard.arrays[name]), int(count))
                copy_rows(shard.arrays[name], self._arrays[name][start:stop])
                start = stop
        resident_lengths = self.lengths[: self.resident_items]
        empty = np.zeros(2 * staged, np.int64)
        self._starts = torch.tensor(
            np.concatenate([rows[: self.resident_items], empty]), device=device
        )
        self._lengths = torch.tensor(np.concatenate([resident_lengths, empty]), device=device)
        self._staging: Staging | None = None
        if staged:
            self._staging = Staging(
                stored, index.shard_offsets, self.resident_items, int(rows[self.resident_items]),
                {**self._arrays, STARTS: self._starts, LENGTHS: self._lengths},
                heads=heads, items=staged, longest=self._longest,
            )  # fmt: skip

    @property
    def count(self) -> int:
        """Return N, the items of the index."""
        return len(self.lengths)

    def parts(self, items: Positions, dtype: torch.dtype) -> Iterator[Part]:
        """Bring the items of a request to the device, a rectangle after the other.

        Taking the next part gives the staging area of the one before the last away: what reads a
        part must be launched before the next one is taken, and need not have ended.

        Args:
            items: (Q, K) positions in the index.
            dtype: in which `packed` will be asked for them.
        """
        if not items.size:
            return
        staged = self._staging is not None and not (items < self.resident_items).all()
        # How many are copied, to an area or to other arrays, is bounded; resident or not, since
        # which of them are is data.
        most = items.size
        if staged and self._staging is not None:
            most = self._staging.items
        if not self._is_in_place(dtype):
            arrays = len(WIDE) + (self.heads if self.level == "tables" else 0)
            item_bytes = self._longest * self.width * arrays * dtype.itemsize
            most = min(most, max(1, COPIED_BYTES // item_bytes))
        columns = min(items.shape[1], most)
        lines = max(1, most // columns)
        for line in range(0, items.shape[0], lines):
            for column in range(0, items.shape[1], columns):
                part = slice(line, line + lines), slice(column, column + columns)
                block = np.ascontiguousarray(items[part])
                rows = _row_class(int(self.lengths[block].sum()))
                if staged and self._staging is not None:
                    with self._staging.area(block) as places:
                        yield Part(*part, places, rows)
                else:
                    yield Part(*part, send(block, self.device), rows)

    def packed(
        self, places: Tensor, rows: int, weights: FoldedItemWeights, dtype: torch.dtype
    ) -> tuple[PackedItems, Tensor]:
        """Return items as the kernels read them, and where they are among those.

        Items whose stored rows a kernel can read are not moved; others are copied and widened or
        narrowed, and those at `tokens` are projected. Nothing is read on the host, so that it can
        be recorded.

        Args:
            places: (...) of a `Part`.
            rows: tokens of all of them together at most; rows behind the last item's are of it or
                of another, and belong to none.
            weights: of the items' kind, `projection` in `dtype`.
            dtype: of the wide arrays.

        Returns:
            the items at `projections` or `tables`, and (...) int64 positions in them.
        """
        if self._is_in_place(dtype):
            return self._in_place(), places
        flat = places.flatten()
        starts, lengths = self._starts[flat], self._lengths[flat]
        ends = lengths.cumsum(0)
        begins = ends - lengths
        number = torch.arange(rows, device=self.device)
        owner = torch.searchsorted(ends, number, right=True).clamp_(max=len(flat) - 1)
        row = starts[owner] + number - begins[owner]

        def wide(name: str, row: Tensor) -> Tensor:
            row = row.clamp(max=len(self._arrays[name]) - 1)
            scales = self._arrays.get(name + SCALE)
            scales = None if scales is None else scales[row]
            return _dequantise(self._arrays[name][row], scales).to(dtype)

        table = None
        if self.level == "tokens":
            arrays = project_tokens(wide("tokens", row), lengths, weights)
        else:
            arrays = {name: wide(name, row) for name in WIDE}
            last = len(self._arrays["gate_bias"]) - 1
            arrays |= {"gate_bias": self._arrays["gate_bias"][row.clamp(max=last)]}
            arrays |= {"mean": self._arrays["mean"][flat]}
            if self.level == "tables":
                # H times as many rows, an item's in one run as its tokens are.
                place = torch.arange(rows * self.heads, device=self.device)
                first = (starts - begins) * self.heads
                table = wide("table", place + first[owner.repeat_interleave(self.heads)])
        packed = PackedItems(
            **arrays, starts=begins, lengths=lengths.int(), table=table, heads=self.heads,
            longest=self._longest, shortest=self._shortest,
        )  # fmt: skip
        return packed, torch.arange(len(flat), device=self.device).view_as(places)

    @property
    def width(self) -> int:
        """Return D."""
        rows = self._arrays["tokens" if self.level == "tokens" else "value"]
        return int(rows.shape[1]) * (2 if rows.dtype == torch.uint8 else 1)  # int4: two a byte

    def close(self) -> None:
        """Release the memory."""
        self._arrays = {}
        self._staging = None

    def _is_in_place(self, dtype: torch.dtype) -> bool:
        """Return whether items are read where they lie."""
        return self.level != "tokens" and self._arrays["value"].dtype == dtype

    def _in_place(self) -> PackedItems:
        """Return all places as they are."""
        return PackedItems(
            **{name: self._arrays[name] for name in LEVELS["projections"]},
            starts=self._starts, lengths=self._lengths.int(), table=self._arrays.get("table"),
            heads=self.heads, longest=self._longest, shortest=self._shortest,
        )  # fmt: skip


def _row_class(rows: int) -> int:
    """Return a number of rows from a number on: one of four to each power of two.

    What is recorded or compiled for a number of rows serves all requests of its class.
    """
    step = max(64, 1 << max(0, rows.bit_length() - 3))
    return -(-rows // step) * step


def project_tokens(
    tokens: Tensor, lengths: Tensor, weights: FoldedItemWeights
) -> dict[str, Tensor]:
    """Return the projections of items' tokens (sum(L), D); see `hficma.model.similarity.project`.

    Args:
        tokens: V of all items, one after the other.
        lengths: (N,) int64.
        weights: of the items' kind, `projection` in the tokens' dtype.
    """
    width = tokens.shape[1]
    # Five products of one left matrix, each contiguous: (5, sum(L), D).
    wide = tokens @ weights.projection.view(5, width, width).mT
    wide += weights.projection_bias.view(5, 1, width)
    exact = tokens.float()
    return {
        **dict(zip(WIDE, wide, strict=True)),
        "gate_bias": exact @ weights.gate_bias,
        "mean": torch.segment_reduce(exact, "mean", lengths=lengths, unsafe=True),
    }


def _dequantise(stored: Tensor, scales: Tensor | None) -> Tensor:
    """Return stored rows (rows, D); those without scales in their own dtype.

    Args:
        stored: in any of the stored dtypes.
        scales: (rows,) of int8, (rows, groups) of int4; None for the others.
    """
    if scales is None:
        return stored
    if stored.dtype != torch.uint8:
        return stored.float() * scales[:, None]
    # int4: the halves of a group share its bytes; see `hficma.engine.files.int4`.
    codes = stored.view(*scales.shape, 1, -1)
    halves = torch.cat([codes & 15, codes >> 4], dim=2)
    return (halves * scales.float()[..., None, None]).view(len(stored), -1)


def _bytes(stored: StoredEncodings) -> tuple[int, int]:
    """Return the bytes of an item without its tokens, and those of a token."""
    item = token = 0
    for name, array in stored.arrays.items():
        each = rows_per_token(name, stored.heads)
        row_bytes = array.nbytes // len(array)
        if each:
            token += each * row_bytes
        else:
            item += row_bytes
    return item, token
