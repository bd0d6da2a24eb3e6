r"""The tables of step (c) of `hficma.model.similarity`, for the items of groups: t_h = U_h W_h.

An index that keeps `projections` is 2.6 times smaller than one that keeps `tables`, and a GPU makes
the tables of a query's candidates about as fast as it could read them. They are made for one launch
at a time, packed in the order of the groups' rows:

                D / H                D                        D
           ┌─────────┐           ┌───────┐              ┌───────────┐
    ROWS   │  U_h of │   D / H   │  W_h  │   ->   ROWS  │ t_h: each │   written at H b + h L + j:
           │  items  │           │       │              │ row where │   the item's first row b, its
           └─────────┘           └───────┘              │ its item  │   length L, the row's place j
                                                        │ has it    │   in it
                                                        └───────────┘
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hficma.model.similarity import FoldedItemWeights

from .packed_items import GroupedRows, PackedItems
from .tile_shapes import tabulation_tile


class ItemTables(NamedTuple):
    """The tables of the items of groups."""

    rows: Tensor
    """(H rows, D), an item's heads outside its tokens."""
    starts: Tensor
    """(G, N) int64: a table's first row is H times this."""


@triton.jit(do_not_specialize=["groups"])
def tabulation_kernel(
    value, rows, owners, begins, lengths, bases, weight, table,
    groups,
    HEADS: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Compute COLUMNS columns of one head's table for ROWS rows of all groups."""
    head_width: tl.constexpr = WIDTH // HEADS
    column_tiles: tl.constexpr = (WIDTH + COLUMNS - 1) // COLUMNS
    head = tl.program_id(0) // column_tiles
    column = tl.program_id(0) % column_tiles * COLUMNS + tl.arange(0, COLUMNS)
    is_column = column < WIDTH
    # The grid is made for items of the longest length: what is behind the true rows ends at once.
    count = tl.load(bases + groups)
    first = tl.program_id(1) * ROWS
    if first >= count:
        return
    row = first + tl.arange(0, ROWS)
    is_row = row < count
    source = tl.load(rows + row, mask=is_row, other=0) * WIDTH + head * head_width
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for done in range(0, head_width, DEPTH):
        feature = done + tl.arange(0, DEPTH)
        is_feature = feature < head_width
        left = tl.load(
            value + (source[:, None] + feature[None, :]),
            mask=is_row[:, None] & is_feature[None, :], other=0.0,
        )  # fmt: skip
        right = tl.load(
            weight + ((head * head_width + feature)[:, None] * WIDTH + column[None, :]),
            mask=is_feature[:, None] & is_column[None, :], other=0.0,
        )  # fmt: skip
        total = tl.dot(left, right, total, input_precision="ieee")
    item = tl.load(owners + row, mask=is_row, other=0)
    begin = tl.load(begins + item, mask=is_row, other=0)
    length = tl.load(lengths + item, mask=is_row, other=0)
    place = (begin * HEADS + head * length + (row - begin)) * WIDTH
    tl.store(
        table + (place[:, None] + column[None, :]), total.to(table.dtype.element_ty),
        mask=is_row[:, None] & is_column[None, :],
    )  # fmt: skip


def item_tables(
    packed: PackedItems, grouped: GroupedRows, weights: FoldedItemWeights
) -> ItemTables:
    """Return the tables of the items of groups: those that are stored, or made here.

    Args:
        packed: the items to choose from.
        grouped: G groups of N items.
        weights: of the items' kind; `table` (H, D / H, D) in the precision of the wide arrays.
    """
    if packed.table is not None:
        return ItemTables(packed.table, grouped.starts)
    heads, _, width = weights.table.shape
    most_rows = grouped.items.numel() * packed.longest
    table = packed.value.new_empty(most_rows * heads, width)
    tile = tabulation_tile(width)
    grid = (triton.cdiv(width, tile.columns) * heads, triton.cdiv(most_rows, tile.rows))
    tabulation_kernel[grid](
        packed.value, grouped.rows, grouped.owners, grouped.begins, grouped.lengths, grouped.bases,
        weights.table, table,
        len(grouped.items),
        HEADS=heads, WIDTH=width, **tile.constants(), **tile.launch(),
    )  # fmt: skip
    return ItemTables(table, grouped.begins)


def item_tables_reference(packed: PackedItems, items: Tensor, weights: FoldedItemWeights) -> Tensor:
    """Return the same table of each of N items, one after the other (H sum(L), D), in float32.

    Args:
        packed: as of `item_tables`.
        items: (N,) int64 positions.
        weights: as of `item_tables`.
    """
    tables = []
    for item in items.tolist():
        start, length = int(packed.starts[item]), int(packed.lengths[item])
        values = packed.value[start : start + length].float()  # (L, D)
        by_head = values.view(length, packed.heads, -1).transpose(0, 1)  # (H, L, D / H)
        tables.append((by_head @ weights.table.float()).flatten(0, 1))
    return torch.cat(tables)
