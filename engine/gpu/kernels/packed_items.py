"""Items in a GPU's memory without padding, and which of them are scored together.

An item's tokens lie one after the other, an item behind the other, as in an index on disk:

    query ...    sum(L) rows    item 0: token 0, 1, ... | item 1: token 0, 1, ... | ...
    table        H sum(L) rows  item 0: head 0: token 0, 1, ...; head 1: ... | item 1: ...
    starts       0, L_0, L_0 + L_1, ...
    lengths      L_0, L_1, ...

Rows that belong to no item may lie between and behind them: where items begin is data.

A kernel reads items of one kind (the readers) against items of the other (the sources), in G
groups. The rows of a group's items are numbered through, wherever in memory they lie, so a tile of
rows holds tokens of several items and no padding:

    items (G, N)      7           2     31                positions in the arrays above
    rows              70 71 72    20    310 311           `rows`, where each lies
    row of the group  0  1  2     3     4   5             what tiles count
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from hficma.model.similarity import PaddedEncodings

SHORT = 16
"""Tokens of a short item: the fewest columns that a matrix instruction is made for."""


@dataclass(frozen=True, kw_only=True)
class PackedItems:
    """Encodings of N items of one kind, packed; the wide arrays in one precision."""

    query: Tensor
    """(sum(L), D); `key`, `value`, `gate` and `fuse` likewise."""
    key: Tensor
    value: Tensor
    gate: Tensor
    fuse: Tensor
    gate_bias: Tensor
    """(sum(L),) float32."""
    mean: Tensor
    """(N, D) float32."""
    starts: Tensor
    """(N,) int64: each item's first row."""
    lengths: Tensor
    """(N,) int32: L, each item's rows."""
    table: Tensor | None
    """(H sum(L), D), an item's heads outside its tokens, its first row H times that above; None
    where tables are made as they are read."""
    heads: int
    """H."""
    longest: int
    """The most tokens of an item: known on the host, so that nothing waits for the device."""
    shortest: int
    """The fewest."""

    @property
    def width(self) -> int:
        """Return D."""
        return self.query.shape[1]


def pack_items(
    encodings: PaddedEncodings, dtype: torch.dtype, *, heads: int, uniform: bool
) -> PackedItems:
    """Lay padded items out as the kernels read them, without waiting for the device.

    The rows of padding stay, since to leave them out their number would have to come back from the
    device: no item begins in them and none reaches into them, so nothing reads them.

    Args:
        encodings: N items (N, L, ...) at `projections` or `tables`.
        dtype: of the wide arrays: float16 on a GPU, float32 where a test compares.
        heads: H.
        uniform: whether every item has L tokens, as photos have.
    """
    count, size, width = encodings.query.shape
    lengths = encodings.lengths
    wide = {
        name: getattr(encodings, name).to(dtype).reshape(-1, width)
        for name in ("query", "key", "value", "gate", "fuse")
    }
    first = torch.arange(count, device=lengths.device) * size
    table = None
    if encodings.table is not None:
        table = encodings.table.to(dtype).reshape(-1, width)
    if table is not None and not uniform:
        # A head's rows follow those of the head before at the item's own length:
        #     padded   a a . . | b b . .      packed   a a b b . . . .      (2 heads, 2 of 4 tokens)
        place = torch.arange(heads * size, device=lengths.device)
        head, token = place // lengths[:, None], place % lengths[:, None]  # (N, H L)
        rows = (heads * first)[:, None] + head.clamp(max=heads - 1) * size + token
        table = table[rows.flatten()]
    return PackedItems(
        **wide,
        gate_bias=encodings.gate_bias.float().flatten(),
        mean=encodings.mean.float().contiguous(),
        starts=first,
        lengths=lengths.int(),
        table=table,
        heads=heads,
        longest=size,
        shortest=size if uniform else 1,
    )


def join_items(parts: Sequence[PackedItems]) -> PackedItems:
    """Return the items of several, one after the other.

    Args:
        parts: without tables.
    """
    rows = accumulate((len(part.query) for part in parts[:-1]), initial=0)
    names = ("query", "key", "value", "gate", "fuse", "gate_bias", "mean", "lengths")
    joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return PackedItems(
        **joined,
        starts=torch.cat([part.starts + row for part, row in zip(parts, rows, strict=True)]),
        table=None,
        heads=parts[0].heads,
        longest=max(part.longest for part in parts),
        shortest=min(part.shortest for part in parts),
    )


def unpack_items(packed: PackedItems, items: Tensor) -> PaddedEncodings:
    """Return items padded, in float32; padding repeats an item's last token.

    Args:
        packed: the items to choose from.
        items: (...) int64 positions.

    Returns:
        (..., L, D) with L the most tokens of any, whichever are chosen: a score must not depend on
        what it is computed with. Without a table where there is none.
    """
    starts, lengths = packed.starts[items], packed.lengths[items].long()
    token = torch.arange(packed.longest, device=items.device).minimum(lengths[..., None] - 1)
    rows = starts[..., None] + token  # (..., L)
    table = None
    if packed.table is not None:
        head = torch.arange(packed.heads, device=items.device)[:, None] * lengths[..., None, None]
        table_rows = (starts * packed.heads)[..., None, None] + head + token[..., None, :]
        table = packed.table[table_rows].float()  # (..., H, L, D)
    return PaddedEncodings(
        query=packed.query[rows].float(),
        key=packed.key[rows].float(),
        value=packed.value[rows].float(),
        gate=packed.gate[rows].float(),
        fuse=packed.fuse[rows].float(),
        gate_bias=packed.gate_bias[rows],
        mean=packed.mean[items],
        lengths=lengths,
        table=table,
    )


@dataclass(frozen=True, kw_only=True)
class GroupedRows:
    """G groups of N items each, and the rows of every group numbered through; on the device."""

    items: Tensor
    """(G, N) int64 positions."""
    starts: Tensor
    """(G, N) int64: an item's first row in the packed arrays."""
    lengths: Tensor
    """(G, N) int32: L."""
    begins: Tensor
    """(G, N) int64: an item's first row among those of all groups."""
    places: Tensor
    """(G, N) int32: an item's first row in its group."""
    bases: Tensor
    """(G + 1,) int64: rows of all groups before."""
    rows: Tensor
    """(G N longest,) int64: where each row lies; a tail that no group reaches is left over."""
    owners: Tensor
    """(G N longest,) int32: which of all groups' G N items a row belongs to."""
    longest: int
    """As of the packed items."""
    shortest: int

    @property
    def most_rows(self) -> int:
        """Return how many rows a group has at most."""
        return self.items.shape[1] * self.longest


def group_rows(packed: PackedItems, items: Tensor) -> GroupedRows:
    """Number the rows of groups of items, without waiting for the device.

    Args:
        packed: the items to choose from.
        items: (G, N) int64 positions.
    """
    groups, count = items.shape
    starts, lengths = packed.starts[items], packed.lengths[items]
    ends = lengths.flatten().cumsum(0)  # int64, as sums of int32 are
    begins = ends - lengths.flatten()
    bases = torch.cat([begins.view(groups, count)[:, 0], ends[-1:]])
    # Row i belongs to the last item that begins at or before it. There are as many places as rows
    # at most: their true number would have to come back from the device.
    numbers = torch.arange(items.numel() * packed.longest, device=items.device)
    owner = torch.searchsorted(begins, numbers, right=True) - 1
    rows = starts.flatten()[owner] + (numbers - begins[owner])
    return GroupedRows(
        items=items,
        starts=starts,
        lengths=lengths,
        begins=begins.view(groups, count),
        places=(begins.view(groups, count) - bases[:-1, None]).int(),
        bases=bases,
        rows=rows.clamp_(max=packed.query.shape[0] - 1),
        owners=owner.int(),
        longest=packed.longest,
        shortest=packed.shortest,
    )


def panel_starts(reader: GroupedRows, source: GroupedRows) -> Tensor:
    """Return where each source item's panel of shares begins, (G, O) int64, in units of H numbers.

    A panel is (rows of the reader's group, H L): all that a group's rows read of one source item.
    """
    reader_rows = reader.bases.diff()  # (G,)
    whole = reader_rows * source.bases.diff()
    before = whole.cumsum(0) - whole
    return before[:, None] + reader_rows[:, None] * source.places


def length_classes(source: GroupedRows) -> list[tuple[int, Tensor, Tensor]]:
    """Part each group's items into short and long ones, without waiting for the device.

        lengths  9  20  7  17  12        order  0  2  4 | 1  3        edges  0  3  5

    Args:
        source: G groups of O items.

    Returns:
        for each class the most tokens of its items, `order` (G, O) int32 of the group's items, and
        `edges` (2, G) int32, between which of them the class lies. One class where all are short,
        all are long, or one tile holds them together.
    """
    groups, count = source.items.shape
    whole = source.lengths.new_full((groups,), count)
    none = torch.zeros_like(whole)
    if not source.shortest <= SHORT < source.longest <= 2 * SHORT or count <= 2:
        order = torch.arange(count, dtype=torch.int32, device=whole.device).repeat(groups, 1)
        return [(source.longest, order, torch.stack([none, whole]))]
    is_long = source.lengths > SHORT
    order = is_long.int().argsort(dim=1, stable=True).int()
    middle = count - is_long.sum(1).int()
    return [
        (SHORT, order, torch.stack([none, middle])),
        (source.longest, order, torch.stack([middle, whole])),
    ]


def item_tiles(reader: GroupedRows, tile_rows: int, tile_items: int) -> tuple[Tensor, int]:
    """Cut each group's items into tiles of whole items, in closed form.

    Items that begin in the same window of `span` rows make a tile; the last of them ends at most
    `longest - 1` rows behind the window. An item counts at least tile_rows / tile_items rows, which
    bounds the items of a tile.

        rows   |a a a b b c c c c d|d d e e ...     span 10, longest 4
        tile    0: a, b, c, d       1: e, ...       d begins in window 0 and ends behind it

    Args:
        reader: G groups of N items.
        tile_rows: rows of a tile, at least `longest`.
        tile_items: items of a tile at most.

    Returns:
        (G, tiles + 1) int32, the first item of each tile, and the number of tiles.
    """
    least = -(-tile_rows // tile_items)
    counted = reader.lengths.clamp(min=least).cumsum(1, dtype=torch.int64)
    longest, shortest = max(reader.longest, least), max(reader.shortest, least)
    assert longest <= tile_rows
    if longest == shortest:
        span = tile_rows // longest * longest  # items of one length fill a tile without a window
    else:
        span = tile_rows - longest + 1
    tiles = -(-reader.items.shape[1] * longest // span)
    edges = torch.arange(tiles + 1, device=counted.device) * span
    begins = counted - reader.lengths.clamp(min=least)
    firsts = torch.searchsorted(begins, edges.expand(len(begins), -1).contiguous())
    return firsts.int(), tiles
