"""Score items where they lie by one of the compiled kernels, tile by tile.

As in `reranking`, items are scored in tiles, each on one thread. But a tile is only what fits a
core's cache: an item's score does not depend on it, for the kernels add every sum in one order. So
tiles are cut by where items lie, and hold items of any length, without padding.

                   ┌ tile 0: items 4, 5, 9 of shard 0 ┐
    candidates ────┼ tile 1: items 12, 30 of shard 0  ┼── means (N, 2 D) ── matching MLP, in parts
                   └ tile 2: items 1, 7, 8 of shard 1 ┘   one row an item

Where tokens are stored they are copied first, and a tile may take them from several shards.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np

from hficma.types import Floats64, Lengths, Positions

from ..encoder import EncodedQuery
from ..files.ragged import raw_rows
from ..index.item_encoding import LEVELS, SCALE, ItemArrays, StoredEncodings, row_width
from ..native.pair_kernel import PackedQuery, PairKernel, TileItems
from .located_items import LocatedItems
from .timing import StageTimer

TILE_FEATURES = 96 * 1024
"""Features (tokens times D) of a tile: what it reads stays in a core's cache."""
MOST_TILE_TOKENS = 384
"""Tokens of a tile at most: of narrow items too there are several tiles, for several threads."""
MATCH_FEATURES = 128
"""Hidden features of the matching MLP that a thread computes at once, for all items."""


class KernelTile(NamedTuple):
    """Items that a thread scores at once: of one shard, or of any where their tokens are copied."""

    places: Positions
    """(n,) where they stand among the items to score."""
    items: LocatedItems
    """(n,) where they lie."""
    lengths: Lengths
    """(n,) their tokens."""


def pack(kernel: PairKernel, query: EncodedQuery) -> PackedQuery:
    """Bring a query, of a model with a local part, into the order in which a kernel reads it."""
    assert query.encodings is not None
    # (1, L, D) to (L, D), and likewise; there is no padding.
    return kernel.pack({name: array[0] for name, array in query.encodings.arrays.items()})


def local_scores(
    kernel: PairKernel,
    query: PackedQuery,
    items: LocatedItems,
    timer: StageTimer,
    pool: Executor | None,
) -> Floats64:
    """Return S_local of a query and N items, (N,).

    Args:
        kernel: of the items' role, and of the level at which they are stored or one below.
        query: packed for it.
        items: at least one.
        timer: counts what is copied of items as `gather`, summed over threads.
        pool: runs tiles, one a task; None runs them here.
    """
    run = map if pool is None else pool.map
    tiles = list(cut_tiles(items, tile_tokens(kernel.width)))
    means = kernel.means(len(items.positions))
    ends = np.cumsum([len(tile.places) for tile in tiles]).tolist()
    rows = [means[end - len(tile.places) : end] for tile, end in zip(tiles, ends, strict=True)]
    list(run(lambda tile, out: kernel.fuse(query, _tile_items(tile, timer), out), tiles, rows))
    # Its weights are read once for all items, not once a tile; threads share its features.
    logits = np.empty((len(means), kernel.match_parts), np.float32)
    step = max(1, MATCH_FEATURES * kernel.match_parts // kernel.width)
    starts = range(0, kernel.match_parts, step)
    stops = [min(start + step, kernel.match_parts) for start in starts]
    list(run(lambda start, stop: kernel.match(means, logits, start, stop), starts, stops))
    local = np.empty(len(means))
    local[np.concatenate([tile.places for tile in tiles])] = kernel.finish(logits)
    return local


def tabulate(
    kernel: PairKernel, items: LocatedItems, timer: StageTimer, pool: Executor
) -> tuple[ItemArrays, Positions]:
    """Bring items to `tables` in memory, where several queries read them.

    What a kernel computes of an item alone is most of what a pair costs, from tokens six of seven
    multiply-adds. An item scores the same bits by what is computed once.

    Args:
        kernel: that shall score them; tables of another kind of kernel have other bits.
        items: N items, at least one, of a level below `tables`.
        timer: counts what is copied of items as `gather`, summed over threads.
        pool: runs tiles, one a task.

    Returns:
        the items in the order of their tiles, and where each of the N stands there, (N,).
    """
    tiles = list(cut_tiles(items, tile_tokens(kernel.width)))
    lengths = [tile.lengths for tile in tiles]
    arrays = kernel.tabulate_tiles(lengths, lambda number: _tile_items(tiles[number], timer), pool)
    order = np.concatenate([tile.places for tile in tiles])
    encodings = StoredEncodings(np.concatenate(lengths), arrays, kernel.heads)
    # order[i] is which item stands at i: its inverse is where each item stands.
    return ItemArrays(items.select(order).vectors(), encodings), np.argsort(order)


def tile_tokens(width: int) -> int:
    """Return about how many tokens a tile has.

    Args:
        width: D.
    """
    return max(1, min(MOST_TILE_TOKENS, TILE_FEATURES // width))


def cut_tiles(items: LocatedItems, tokens: int) -> Iterator[KernelTile]:
    """Cut N items into tiles, in the order in which they are stored.

    Args:
        items: N of them.
        tokens: about how many a tile has.
    """
    order = np.lexsort((items.positions, items.array_of))
    ordered = items.select(order)
    lengths = ordered.lengths()
    # Items of one group may share a tile. A kernel reads arrays where they lie, those of one shard;
    # but tokens are copied, and each tile reads the projections' weights anew: few items in each
    # of many shards would make many tiles of few tokens.
    group = ordered.array_of.copy()
    for arrays, _, run in ordered.runs():
        assert arrays.encodings is not None
        if arrays.encodings.level == "tokens":
            group[run] = -1
    borders = np.flatnonzero(np.diff(group)) + 1
    for places in np.split(np.arange(len(order)), borders):
        # As many tiles as their tokens fill, cut where the running sum passes a whole number.
        total = int(lengths[places].sum())
        before = np.cumsum(lengths[places]) - lengths[places]
        count = max(1, round(total / tokens))
        cuts = np.searchsorted(before, np.arange(1, count) * (total / count))
        for part in np.split(places, np.unique(cuts)):
            if len(part):
                yield KernelTile(order[part], ordered.select(part), lengths[part])


def _tile_items(tile: KernelTile, timer: StageTimer) -> TileItems:
    """Return where the arrays of a tile's items lie."""
    encodings = tile.items.first_encodings()
    level = encodings.level
    if level == "tokens":
        with timer.part("gather"):
            return _gathered_tokens(tile)
    positions = tile.items.positions
    encodings.check(positions)
    arrays = {name: raw_rows(rows) for name, rows in encodings.arrays.items()}
    return TileItems(
        tile.lengths,
        encodings.offsets[positions],
        positions,
        {name: arrays[name] for name in LEVELS[level]},
        {name: arrays[name + SCALE] for name in LEVELS[level] if name + SCALE in arrays},
    )


def _gathered_tokens(tile: KernelTile) -> TileItems:
    """Copy items' tokens, widened to float32: little beside what is computed of them."""
    count, size = len(tile.places), int(tile.lengths.max())
    width = row_width(tile.items.first_encodings().arrays["tokens"])
    tokens = np.empty((count, size, width), np.float32)
    for arrays, positions, run in tile.items.runs():
        assert arrays.encodings is not None
        arrays.encodings.gather(positions, size, {"tokens": tokens[run]})
    numbers = np.arange(count)
    flat = {"tokens": tokens.reshape(-1, width)}
    return TileItems(tile.lengths, numbers * size, numbers, flat, {})
