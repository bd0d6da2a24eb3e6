r"""The attention of (2) and the gate of (a) of `hficma.model.similarity`, for all pairs of groups.

Rows of readers meet the tokens of source items. Both directions are this kernel: photos read
recipes, then recipes read photos; they share no operand.

              columns: ITEMS source items in slots of SLOT tokens
              ┌──── item o ────┬─── item o+1 ───┬─ ...
    rows of   │ k_0 ... k_L  · │ k_0 ... k_L  · │          · past an item's length: masked
    readers   │                │                │          softmax over a slot
              └────────────────┴────────────────┴─ ...

A reader's row never meets another's, so rows are packed: a tile holds rows of several items, and
only sources are padded, to a power of two: those of up to 16 tokens are launched apart, as most
recipes have 9 and a few have 20. One program has one head, one tile of rows and STEPS
tiles of columns, or the other way round: what does not move stays on chip.

Written, for source item o with the L tokens of its own, in a panel of its own:

    shares      (rows of the group, H L)   A_h[r, j] at r H L + h L + j: the product's left matrix
    agreement   (H, pair rows)             Σ_j A_h[r, j] (P_h U_hᵀ)[r, j]: a head's part of the
                                           gate, added over heads by whoever reads it, because a
                                           program has one head and sums must not depend on order
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .packed_items import GroupedRows, PackedItems, length_classes, panel_starts
from .tile_shapes import attention_tile


@triton.jit
def _load_rows(
    query, gate, rows, base, count, tile, offset, in_head,
    WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Load one head of a tile of reader rows: their numbers, which there are, query and gate."""
    row = tile * ROWS + tl.arange(0, ROWS)
    is_row = row < count
    place = tl.load(rows + base + row, mask=is_row, other=0)[:, None] * WIDTH + offset
    query_tile = tl.load(query + place, mask=is_row[:, None] & in_head, other=0.0)
    gate_tile = tl.load(gate + place, mask=is_row[:, None] & in_head, other=0.0)
    return row, is_row, query_tile, gate_tile


@triton.jit
def _load_items(
    key, value, starts, lengths, order, first, begin, end, tile, offset, in_head,
    WIDTH: tl.constexpr, SLOT: tl.constexpr, ITEMS: tl.constexpr,
):  # fmt: skip
    """Load one head of a tile of source items, a column a token, and each column's item."""
    column = tl.arange(0, ITEMS * SLOT)
    place = begin + tile * ITEMS + column // SLOT
    item = tl.load(order + first + place, mask=place < end, other=0)
    # A column without an item is one whose item has no token.
    length = tl.load(lengths + first + item, mask=place < end, other=0)
    start = tl.load(starts + first + item, mask=place < end, other=0)
    is_token = (column % SLOT < length)[:, None] & in_head
    place = (start + column % SLOT)[:, None] * WIDTH + offset
    key_tile = tl.load(key + place, mask=is_token, other=0.0)
    value_tile = tl.load(value + place, mask=is_token, other=0.0)
    return item, length, key_tile, value_tile


@triton.jit(do_not_specialize=["sources", "pair_rows"])
def attention_kernel(
    query, gate, rows, bases,
    key, value, starts, lengths, panels, order, edges,
    shares, agreement,
    scale, sources, pair_rows,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, HEAD: tl.constexpr, HEAD_BLOCK: tl.constexpr,
    ROWS: tl.constexpr, SLOT: tl.constexpr, ITEMS: tl.constexpr, STEPS: tl.constexpr,
    READER_STAYS: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Compute one head of STEPS tiles; see the module for the layout."""
    head = tl.program_id(0) % HEADS
    moving = tl.program_id(0) // HEADS * STEPS
    staying = tl.program_id(1)
    group = tl.program_id(2)
    base = tl.load(bases + group)
    count = (tl.load(bases + group + 1) - base).to(tl.int32)
    first = group * sources
    begin = tl.load(edges + group)
    end = tl.load(edges + tl.num_programs(2) + group)
    # The grid is made for items of the longest length, all of one class: what is behind the true
    # rows and items ends at once.
    rest = tl.cdiv(end - begin, ITEMS) if READER_STAYS else tl.cdiv(count, ROWS)
    if moving >= rest or (READER_STAYS and staying * ROWS >= count):
        return

    feature = tl.arange(0, HEAD_BLOCK)
    in_head = (feature < HEAD)[None, :]
    offset = head * HEAD + feature[None, :]
    token = tl.arange(0, ITEMS * SLOT) % SLOT

    # Loaded before the loop, or the compiler buffers it once for each stage of its pipeline.
    if READER_STAYS:
        row, is_row, query_tile, gate_tile = _load_rows(
            query, gate, rows, base, count, staying, offset, in_head, WIDTH, ROWS
        )
    else:
        item, length, key_tile, value_tile = _load_items(
            key, value, starts, lengths, order, first, begin, end, staying, offset, in_head,
            WIDTH, SLOT, ITEMS,
        )  # fmt: skip
    for step in range(tl.minimum(STEPS, rest - moving)):
        if READER_STAYS:
            item, length, key_tile, value_tile = _load_items(
                key, value, starts, lengths, order, first, begin, end, moving + step, offset,
                in_head, WIDTH, SLOT, ITEMS,
            )  # fmt: skip
        else:
            row, is_row, query_tile, gate_tile = _load_rows(
                query, gate, rows, base, count, moving + step, offset, in_head, WIDTH, ROWS
            )
        is_token = token < length

        logits = tl.dot(query_tile, tl.trans(key_tile), input_precision="ieee")
        products = tl.dot(gate_tile, tl.trans(value_tile), input_precision="ieee")
        # Sums over features may be taken in parts: of a head whose source fits no chip whole, the
        # first part stays and the others pass.
        for part in tl.range(1, PARTS, num_stages=1):
            behind = part * HEAD_BLOCK
            in_part = (feature + behind < HEAD)[None, :]
            _, _, query_part, gate_part = _load_rows(
                query, gate, rows, base, count, staying if READER_STAYS else moving + step,
                offset + behind, in_part, WIDTH, ROWS,
            )  # fmt: skip
            _, _, key_part, value_part = _load_items(
                key, value, starts, lengths, order, first, begin, end,
                moving + step if READER_STAYS else staying, offset + behind, in_part,
                WIDTH, SLOT, ITEMS,
            )  # fmt: skip
            logits = tl.dot(query_part, tl.trans(key_part), logits, input_precision="ieee")
            products = tl.dot(gate_part, tl.trans(value_part), products, input_precision="ieee")
        logits = logits * scale
        logits = tl.where(is_token[None, :], logits, -1e30)
        logits = tl.reshape(logits, (ROWS, ITEMS, SLOT))
        # A slot without an item is uniform: no infinity, no NaN, and never written.
        weights = tl.exp(logits - tl.max(logits, 2)[:, :, None])
        weights = weights / tl.sum(weights, 2)[:, :, None]
        products = tl.reshape(products, (ROWS, ITEMS, SLOT))
        agreed = tl.sum(weights * products, 2)  # (ROWS, ITEMS)

        panel = tl.load(panels + first + item) * HEADS
        place = panel[None, :] + row[:, None] * (length * HEADS)[None, :]
        place += (head * length + token)[None, :]
        flat = tl.reshape(weights, (ROWS, ITEMS * SLOT)).to(shares.dtype.element_ty)
        tl.store(shares + place, flat, mask=is_row[:, None] & is_token[None, :])
        tile = moving + step if READER_STAYS else staying
        place = begin + tile * ITEMS + tl.arange(0, ITEMS)
        written = is_row[:, None] & (place < end)[None, :]
        number = tl.load(order + first + place, mask=place < end, other=0)
        place = head * pair_rows + base * sources + number[None, :].to(tl.int64) * count
        tl.store(agreement + place + row[:, None], agreed, mask=written)


def attend(
    reader: PackedItems, source: PackedItems, reader_rows: GroupedRows, source_rows: GroupedRows
) -> tuple[Tensor, Tensor]:
    """Compute what each row of a group's readers reads on each of its source items.

    Args:
        reader: whose `query` and `gate` are read.
        source: whose `key` and `value` are read.
        reader_rows: G groups of N items.
        source_rows: G groups of O items.

    Returns:
        shares, panels one after the other as `panel_starts` says, and agreement (H, pair rows)
        float32; both have a tail that is never written where items are shorter than the longest.
    """
    groups, sources = source_rows.items.shape
    heads, width = reader.heads, reader.width
    pair_rows = groups * reader_rows.most_rows * sources
    assert pair_rows * heads < 2**31  # the kernels count what one launch writes in 32 bits
    shares = reader.query.new_empty(pair_rows * heads * source_rows.longest)
    agreement = torch.empty(heads, pair_rows, device=shares.device)
    panels = panel_starts(reader_rows, source_rows)
    for longest, order, edges in length_classes(source_rows):
        tile = attention_tile(reader_rows.most_rows, sources, longest, width // heads)
        row_tiles = triton.cdiv(reader_rows.most_rows, tile.rows)
        item_tiles = triton.cdiv(sources, tile.items)
        staying, moving = (row_tiles, item_tiles) if tile.reader_stays else (item_tiles, row_tiles)
        attention_kernel[(triton.cdiv(moving, tile.steps) * heads, staying, groups)](
            reader.query, reader.gate, reader_rows.rows, reader_rows.bases,
            source.key, source.value, source_rows.starts, source_rows.lengths,
            panels, order, edges,
            shares, agreement,
            (heads / width) ** 0.5, sources, pair_rows,
            HEADS=heads, WIDTH=width, **tile.constants(), **tile.launch(),
        )  # fmt: skip
    return shares, agreement


def attend_reference(
    reader: PackedItems, source: PackedItems, reader_rows: GroupedRows, source_rows: GroupedRows
) -> tuple[list[Tensor], list[Tensor]]:
    """Compute the same pair by pair, in float32.

    Args:
        reader: as of `attend`.
        source: as of `attend`.
        reader_rows: as of `attend`.
        source_rows: as of `attend`.

    Returns:
        for each group and source item, one after the other, its panel (rows, H L) and its
        agreement summed over heads (rows,).
    """
    heads, width = reader.heads, reader.width

    def by_head(array: Tensor, rows: Tensor) -> Tensor:
        return array[rows].float().view(len(rows), heads, -1).transpose(0, 1)  # (H, rows, D/H)

    panels, agreements = [], []
    for group, items in enumerate(source_rows.items):
        begin, end = reader_rows.bases[group : group + 2].tolist()
        rows = reader_rows.rows[begin:end]
        for item in items.tolist():
            start, length = int(source.starts[item]), int(source.lengths[item])
            tokens = torch.arange(start, start + length, device=rows.device)
            logits = by_head(reader.query, rows) @ by_head(source.key, tokens).mT
            attention = torch.softmax(logits * (heads / width) ** 0.5, dim=-1)  # (H, rows, L)
            products = by_head(reader.gate, rows) @ by_head(source.value, tokens).mT
            panels.append(attention.transpose(0, 1).flatten(1))
            agreements.append((attention * products).sum(dim=(0, 2)))
    return panels, agreements
