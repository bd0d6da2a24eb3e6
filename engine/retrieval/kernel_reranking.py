"""Re-rank with the compiled kernels: items are read where they lie, and none is padded.

As in `reranking`, items are scored in tiles, each on one thread. But a tile is only what fits a
core's cache: an item's score does not depend on it, for the kernels add every sum in one order. So
tiles are cut by where items lie, and hold items of any length.

                   ┌ tile 0: items 4, 5, 9 of shard 0 ┐
    candidates ────┼ tile 1: items 12, 30 of shard 0  ┼── means (N, 2 D) ── matching MLP, in parts
                   └ tile 2: items 1, 7, 8 of shard 1 ┘   one row an item
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hficma.scores import ScoreWeights
from hficma.types import Floats, Positions

from ..encoder import EncodedQuery
from ..files.ragged import raw_rows
from ..index.item_encoding import LEVELS, SCALE, Role, StoredEncodings, row_width
from ..native.pair_kernel import PackedQuery, PairKernel, TileItems
from .certificate import ItemScores
from .located_items import LocatedItems
from .timing import StageTimer

if TYPE_CHECKING:
    from ..bundle.bundle import Bundle

TILE_TOKENS = 96
"""Tokens of a tile: what it reads stays in a core's cache, and threads end at about one time."""
MATCH_FEATURES = 128
"""Hidden features of the matching MLP that a thread computes at once, for all items."""


class KernelTile(NamedTuple):
    """Items that a thread scores at once, of one shard."""

    places: Positions
    """(n,) where they stand among the items to score."""
    encodings: StoredEncodings
    """That hold them."""
    positions: Positions
    """(n,) where they stand there."""


class KernelReranker:
    """Scores items of an index for queries; any number of threads may share it.

    Args:
        kernel: of the items' role and of the level at which they are stored, or below it.
        pool: runs tiles, one a task.
        weights: w_g and w_l.
    """

    def __init__(self, kernel: PairKernel, pool: Executor, weights: ScoreWeights) -> None:
        self._kernel = kernel
        self._pool = pool
        self._weights = weights

    @classmethod
    def of_bundle(
        cls, bundle: Bundle, role: Role, level: str, pool: Executor
    ) -> KernelReranker | None:
        """Return what re-ranks items of a role; None where another runtime scores their pairs.

        Args:
            bundle: of the index's model, in float32.
            role: of the items.
            level: at which they are stored.
            pool: runs tiles.
        """
        from ..runtimes.native_backend import NativeRuntime

        runtime = bundle.runtime(
            "cross_tables" if level == "tables" else f"cross_{role}_projections"
        )
        if not isinstance(runtime, NativeRuntime):
            return None
        projection = bundle.graph(f"project_{role}") if level == "tokens" else None
        if projection is not None and projection.precision != "fp32":
            return None
        kernel = runtime.kernel(role, projection=projection)
        return cls(kernel, pool, bundle.score_weights)

    def pack(self, query: EncodedQuery) -> PackedQuery:
        """Bring a query, of a model with a local part, into the order in which it is read."""
        assert query.encodings is not None
        # (1, L, D) to (L, D), and likewise; there is no padding.
        return self._kernel.pack({name: a[0] for name, a in query.encodings.arrays.items()})

    def score(
        self, query: EncodedQuery, packed: PackedQuery, items: LocatedItems, timer: StageTimer
    ) -> ItemScores:
        """Score N items for a query.

        Args:
            query: of the other role.
            packed: the same query.
            items: to score.
            timer: counts what is copied of items as `gather`, summed over threads.
        """
        global_ = items.global_scores(query.vector)
        local = np.zeros(len(global_))
        if len(global_):
            tiles = list(cut_kernel_tiles(items))
            means = self._kernel.means(len(global_))
            ends = np.cumsum([len(tile.places) for tile in tiles])
            rows = [
                means[end - len(tile.places) : end] for tile, end in zip(tiles, ends, strict=True)
            ]
            list(
                self._pool.map(lambda tile, out: self._fuse(packed, tile, out, timer), tiles, rows)
            )
            order = np.concatenate([tile.places for tile in tiles])
            local[order] = self._match(means)
        return ItemScores(self._weights.total(global_, local), global_, local)

    def _fuse(self, packed: PackedQuery, tile: KernelTile, out: Floats, timer: StageTimer) -> None:
        """Fill the means of a tile's items."""
        encodings, positions = tile.encodings, tile.positions
        lengths = encodings.lengths[positions]
        if encodings.level == "tokens":
            with timer.part("gather"):
                items = _gathered_tokens(encodings, positions)
        else:
            encodings.check(positions)
            names = LEVELS[encodings.level]
            items = TileItems(
                lengths,
                encodings.offsets[positions],
                positions,
                {name: raw_rows(encodings.arrays[name]) for name in names},
                {
                    name: raw_rows(encodings.arrays[name + SCALE])
                    for name in names
                    if name + SCALE in encodings.arrays
                },
            )
        self._kernel.fuse(packed, items, out)

    def _match(self, means: Floats) -> Floats:
        """Return S_local of items with these means."""
        kernel = self._kernel
        logits = np.empty((len(means), kernel.match_parts), np.float32)
        step = max(1, MATCH_FEATURES * kernel.match_parts // kernel.width)
        starts = range(0, kernel.match_parts, step)
        list(
            self._pool.map(
                lambda start: kernel.match(
                    means, logits, start, min(start + step, kernel.match_parts)
                ),
                starts,
            )
        )
        return kernel.finish(logits)


def cut_kernel_tiles(items: LocatedItems) -> Iterator[KernelTile]:
    """Cut N items into tiles of one shard each, in the order in which they are stored."""
    order = np.lexsort((items.positions, items.array_of))
    for arrays, positions, run in items.select(order).runs():
        assert arrays.encodings is not None
        lengths = arrays.encodings.lengths[positions]
        # As many tiles as their tokens fill, cut where the running sum passes a whole number.
        before = np.cumsum(lengths) - lengths
        count = max(1, round(int(lengths.sum()) / TILE_TOKENS))
        cuts = np.searchsorted(before, np.arange(1, count) * (int(lengths.sum()) / count))
        places = order[run]
        for part in np.split(np.arange(len(places)), np.unique(cuts)):
            if len(part):
                yield KernelTile(places[part], arrays.encodings, positions[part])


def _gathered_tokens(encodings: StoredEncodings, positions: Positions) -> TileItems:
    """Copy items' tokens, widened to float32: little beside what is computed of them."""
    lengths = encodings.lengths[positions]
    size = int(lengths.max())
    width = row_width(encodings.arrays["tokens"])
    tokens = np.empty((len(positions), size, width), np.float32)
    encodings.gather(positions, size, {"tokens": tokens})
    numbers = np.arange(len(positions))
    return TileItems(lengths, numbers * size, numbers, {"tokens": tokens.reshape(-1, width)}, {})
