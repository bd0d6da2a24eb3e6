r"""The gated fusion of (5) and its mean of (6), for all pairs of groups: what a pair mostly costs.

For reader rows r and source item o, with steps (b) to (d) of `hficma.model.similarity`:

    g = σ(Σ_h agreement_h + s)                                   one number a row
    c = mean over an item's rows of ReLU(g ⊙ (a + A t) + f) + mean V

              H L                  D                      D
           ┌───────┐           ┌───────┐             ┌───────┐
    ROWS   │ A of  │   H L     │ t of  │   ->  ROWS  │       │   ->  ITEMS rows of c: the mean is a
           │  o    │           │  o    │             │       │       product with ITEMS x ROWS ones
           └───────┘           └───────┘             └───────┘
    reader rows, whole items    a column tile of COLUMNS    stays in registers

A tile holds whole items, as many as fit: five photos of 49 regions in 256 rows, or a dozen recipes
in 128, all against the same columns of one table. The gate scales the sum rather than A, since a
program of the attention knows one head of it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .packed_items import GroupedRows, PackedItems, item_tiles, panel_starts
from .tabulation import ItemTables
from .tile_shapes import fusion_tile


@triton.jit(
    do_not_specialize=[
        "readers", "sources", "pair_rows", "tiles", "reader_stride", "source_stride",
    ]
)  # fmt: skip
def fusion_kernel(
    shares, agreement, table, fuse, gate_bias, mean, bias,
    items, places, item_lengths, firsts, rows, owners, bases,
    starts, lengths, panels,
    means,
    readers, sources, pair_rows, tiles, reader_stride, source_stride,
    HEADS: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, ITEMS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Compute one tile of reader items against COLUMNS columns of one source item's table."""
    column_tiles: tl.constexpr = (WIDTH + COLUMNS - 1) // COLUMNS
    # Column tiles of one source follow one another: they read the same shares while L2 has them.
    source = tl.program_id(0) // column_tiles
    column = tl.program_id(0) % column_tiles * COLUMNS + tl.arange(0, COLUMNS)
    is_column = column < WIDTH
    tile = tl.program_id(1)
    group = tl.program_id(2)
    first = tl.load(firsts + group * (tiles + 1) + tile)
    behind = tl.load(firsts + group * (tiles + 1) + tile + 1)
    if first >= behind:
        return
    last = group * readers + behind - 1
    begin = tl.load(places + group * readers + first)
    end = tl.load(places + last) + tl.load(item_lengths + last)
    base = tl.load(bases + group)
    count = tl.load(bases + group + 1) - base
    row = begin + tl.arange(0, ROWS)
    is_row = row < end

    # Before the product: after it, no register is free.
    place = tl.load(rows + base + row, mask=is_row, other=0)
    opening = tl.load(gate_bias + place, mask=is_row, other=0.0)
    for head in tl.static_range(HEADS):
        part = agreement + head * pair_rows + base * sources + source * count + row
        opening += tl.load(part, mask=is_row, other=0.0)
    opened = 1.0 / (1.0 + tl.exp(-opening))

    depth = tl.load(lengths + group * sources + source) * HEADS
    left = shares + tl.load(panels + group * sources + source) * HEADS
    right = table + tl.load(starts + group * sources + source) * (HEADS * WIDTH)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for done in range(0, depth, DEPTH):
        # Offsets of 32 bits, made anew: tiles of 64-bit pointers that are moved on would take a
        # quarter of the registers.
        step = done + tl.arange(0, DEPTH)
        # An item of L tokens has H L rows of table, of any length: both operands are masked, since
        # what lies behind (another item, or memory never written) may be NaN, and 0 x NaN is NaN.
        is_step = step < depth
        left_tile = tl.load(
            left + (row[:, None] * depth + step[None, :]),
            mask=is_row[:, None] & is_step[None, :], other=0.0,
        )  # fmt: skip
        right_tile = tl.load(
            right + (step[:, None] * WIDTH + column[None, :]),
            mask=is_step[:, None] & is_column[None, :], other=0.0,
        )  # fmt: skip
        total = tl.dot(left_tile, right_tile, total, input_precision="ieee")

    both = is_row[:, None] & is_column[None, :]
    fused = tl.load(fuse + place[:, None] * WIDTH + column[None, :], mask=both, other=0.0)
    shift = tl.load(bias + column, mask=is_column, other=0.0)
    fused = opened[:, None] * (fused.to(tl.float32) + total) + shift[None, :]
    fused = tl.where(both, tl.maximum(fused, 0.0), 0.0)

    owner = tl.load(owners + base + row, mask=is_row, other=-1) - (group * readers + first)
    item = tl.arange(0, ITEMS)
    if ITEMS == 1:
        sums = tl.sum(fused, 0)[None, :]
    else:
        ones = ((item[:, None] == owner[None, :]) & is_row[None, :]).to(table.dtype.element_ty)
        sums = tl.dot(ones, fused.to(table.dtype.element_ty), input_precision="ieee")
    is_item = item < behind - first
    number = group * readers + first + item
    tokens = tl.load(item_lengths + number, mask=is_item, other=1).to(tl.float32)
    store = tl.load(items + number, mask=is_item, other=0)
    both = is_item[:, None] & is_column[None, :]
    own = tl.load(mean + store[:, None] * WIDTH + column[None, :], mask=both, other=0.0)
    pair = (group * readers * sources).to(tl.int64)
    pair = pair + (first + item) * reader_stride + source * source_stride
    fused_mean = sums / tokens[:, None] + own
    place = pair[:, None] * WIDTH + column[None, :]
    tl.store(means + place, fused_mean.to(means.dtype.element_ty), mask=both)


def fuse(
    reader: PackedItems,
    source: PackedItems,
    reader_rows: GroupedRows,
    source_rows: GroupedRows,
    shares: Tensor,
    agreement: Tensor,
    tables: ItemTables,
    bias: Tensor,
    *,
    source_first: bool,
) -> Tensor:
    """Compute c of (6) for every pair of a group.

    Args:
        reader: whose `fuse`, `gate_bias` and `mean` are read.
        source: whose tables are read.
        reader_rows: G groups of N items.
        source_rows: G groups of O items.
        shares: of `attend`.
        agreement: (H, pair rows) of `attend`.
        tables: of the sources, of `item_tables`.
        bias: f (D,), float32.
        source_first: order the pairs (G, O, N); else (G, N, O).

    Returns:
        (G N O, D) in the precision of the wide arrays.
    """
    groups, readers = reader_rows.items.shape
    sources = source_rows.items.shape[1]
    tile = fusion_tile(reader_rows.longest, reader_rows.most_rows, sources, reader.width)
    firsts, tiles = item_tiles(reader_rows, tile.rows, tile.items)
    means = reader.query.new_empty(groups * readers * sources, reader.width)
    column_tiles = triton.cdiv(reader.width, tile.columns)
    fusion_kernel[(sources * column_tiles, tiles, groups)](
        shares, agreement, tables.rows, reader.fuse, reader.gate_bias, reader.mean, bias,
        reader_rows.items, reader_rows.places, reader_rows.lengths, firsts, reader_rows.rows,
        reader_rows.owners, reader_rows.bases,
        tables.starts, source_rows.lengths, panel_starts(reader_rows, source_rows),
        means,
        readers, sources, agreement.shape[1], tiles,
        1 if source_first else sources, readers if source_first else 1,
        HEADS=reader.heads, WIDTH=reader.width, **tile.constants(), **tile.launch(),
    )  # fmt: skip
    return means


def fuse_reference(
    reader: PackedItems,
    source: PackedItems,
    reader_rows: GroupedRows,
    source_rows: GroupedRows,
    panels: list[Tensor],
    agreements: list[Tensor],
    bias: Tensor,
) -> Tensor:
    """Compute the same pair by pair, in float32.

    Args:
        reader: as of `fuse`.
        source: as of `fuse`.
        reader_rows: as of `fuse`.
        source_rows: as of `fuse`.
        panels: of `attend_reference`.
        agreements: of `attend_reference`.
        bias: f (D,).

    Returns:
        (G, O, N, D): the readers of a source item one after the other.
    """
    groups, sources = source_rows.items.shape
    means = []
    for number, (panel, agreement) in enumerate(zip(panels, agreements, strict=True)):
        group, item = number // sources, int(source_rows.items.flatten()[number])
        begin, end = reader_rows.bases[group : group + 2].tolist()
        rows = reader_rows.rows[begin:end]
        assert source.table is not None
        first, count = int(source.starts[item]), int(source.lengths[item])
        rows_of_table = slice(first * source.heads, (first + count) * source.heads)
        table = source.table[rows_of_table].float()  # (H L, D)
        gate = torch.sigmoid(agreement + reader.gate_bias[rows])[:, None]
        fused = torch.relu(gate * (reader.fuse[rows].float() + panel @ table) + bias)
        tokens = reader_rows.lengths[group].tolist()
        own = reader.mean[reader_rows.items[group]]
        means.append(torch.stack([part.mean(0) for part in fused.split(tokens)]) + own)
    return torch.stack(means).view(groups, sources, *means[0].shape)
