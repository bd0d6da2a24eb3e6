"""Re-rank: S of one query and many items, scored by the cross branch in small tiles.

A tile is a few items padded to one length and copied into one block. Padding (.) repeats an item's
last token, is masked inside the branch, and is at most one token wide:

    tile of length 4            tile of length 8
    item 7   a a a a            item 0   d d d d d d d .
    item 3   b b b .            item 9   e e e e e e e e
    item 5   c c c .

Why tiles, and not one batch of all items:

* An item's padded length follows from the item alone, so its score does not depend on what else is
  scored. A certificate compares scores from different batches; it would be worth nothing otherwise.
* A tile's arrays stay in a core's cache between the copy and the products.
* Each tile runs on one thread of a pool. One large run on all threads would have them wait for
  each other behind every layer.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hficma.scores import ScoreWeights
from hficma.types import Array, Floats, Lengths, Positions

from ..encoder import EncodedQuery, raise_level
from ..index.item_encoding import (
    LEVELS,
    BatchEncodings,
    ItemArrays,
    Role,
    StoredEncodings,
    padded_shape,
    ragged_rows,
)
from .certificate import ItemScores
from .located_items import LocatedItems
from .timing import StageTimer

if TYPE_CHECKING:
    from ..bundle.bundle import Bundle

TILE_TOKENS = 320
"""Tokens of a tile's items, padding included: 16 recipes of 20 ingredients, 6 photos."""
LENGTH_STEP = 2
"""Lengths are padded up to a multiple of this: fewer, fuller tiles for little padding."""


class Tile(NamedTuple):
    """Items that are scored in one run of the cross branch."""

    places: Positions
    """(n,) where they stand among the items to score."""
    length: int
    """Tokens that each is padded to."""


class Reranker:
    """Scores items of an index for queries; any number of threads may share it.

    Args:
        bundle: of the index's model, its sessions of one thread each.
        role: of the items.
        pool: runs tiles, one a task.
        weights: w_g and w_l.
    """

    def __init__(self, bundle: Bundle, role: Role, pool: Executor, weights: ScoreWeights) -> None:
        self._bundle = bundle
        self._role: Role = role
        self._query_role: Role = "image" if role == "recipe" else "recipe"
        self._pool = pool
        self._weights = weights
        self._thread = threading.local()

    def score(self, query: EncodedQuery, items: LocatedItems, timer: StageTimer) -> ItemScores:
        """Score N items for a query.

        Args:
            query: of the other role.
            items: to score.
            timer: counts the copying of items as `gather`, summed over threads.
        """
        global_ = items.global_scores(query.vector)
        local = np.zeros(len(global_))
        if query.encodings is not None and len(global_):
            tiles = self._tiles(items)
            results = self._pool.map(
                lambda tile: self._score_tile(query, items, tile, timer), tiles
            )
            for tile, scores in zip(tiles, results, strict=True):
                local[tile.places] = scores
        return ItemScores(self._weights.total(global_, local), global_, local)

    def tabulate(self, items: LocatedItems) -> tuple[ItemArrays, Positions]:
        """Copy items to memory and bring them to `tables`.

        Args:
            items: N items, of any level.

        Returns:
            the items in the order of their tiles, and where each of the N stands there, (N,).
        """
        tiles = self._tiles(items)

        def tabulate_tile(tile: Tile) -> tuple[Lengths, dict[str, Floats]]:
            encodings = self._gather(items.select(_at_least_two(tile.places)), tile.length)
            encodings = raise_level(self._bundle, self._role, encodings, "tables")
            count = len(tile.places)
            encodings = BatchEncodings(
                encodings.lengths[:count], {n: a[:count] for n, a in encodings.arrays.items()}
            )
            # Copied, since the thread's next tile is gathered into the same buffers.
            return encodings.lengths, {
                n: np.array(ragged_rows(encodings, n)) for n in LEVELS["tables"]
            }

        tables = list(self._pool.map(tabulate_tile, tiles))
        order = np.concatenate([tile.places for tile in tiles])
        encodings = StoredEncodings(
            np.concatenate([lengths for lengths, _ in tables]),
            {name: np.concatenate([rows[name] for _, rows in tables]) for name in LEVELS["tables"]},
            self._bundle.facts.heads,
        )
        # order[i] is which item stands at i: its inverse is where each item stands.
        return ItemArrays(items.select(order).vectors(), encodings), np.argsort(order)

    def _tiles(self, items: LocatedItems) -> list[Tile]:
        """Cut items into tiles, each of one level and one padded length."""
        lengths = np.empty(len(items.positions), dtype=np.int64)
        levels = np.empty(len(items.positions), dtype=np.int64)
        for number, arrays in enumerate(items.arrays):
            here = items.array_of == number
            assert arrays.encodings is not None
            lengths[here] = arrays.encodings.lengths[items.positions[here]]
            levels[here] = list(LEVELS).index(arrays.encodings.level)
        # All photos have the same number of regions: only recipes need padding.
        step = 1 if self._role == "image" else LENGTH_STEP
        tiles = []
        for level in np.unique(levels):  # a cache is at another level than the shards
            places = np.flatnonzero(levels == level)
            for tile in cut_tiles(lengths[places], items.select(places), step):
                tiles.append(Tile(places[tile.places], tile.length))
        return tiles

    def _score_tile(
        self, query: EncodedQuery, items: LocatedItems, tile: Tile, timer: StageTimer
    ) -> Floats:
        """Return S_local of a query and a tile's items, (n,)."""
        assert query.encodings is not None
        with timer.part("gather"):
            tile_items = items.select(_at_least_two(tile.places))
            encodings = self._gather(tile_items, tile.length)
            vectors = tile_items.vectors()
        if "tokens" in encodings.arrays:
            encodings = raise_level(self._bundle, self._role, encodings, "projections")
        graph = "tables" if "table" in encodings.arrays else f"{self._role}_projections"
        inputs = {
            **_cross_inputs(self._role, encodings, vectors),
            **_cross_inputs(self._query_role, query.encodings, query.vector[None]),
        }
        scores: Floats = self._bundle.run(f"cross_{graph}", inputs)["local"].reshape(-1)
        return scores[: len(tile.places)]

    def _gather(self, items: LocatedItems, length: int) -> BatchEncodings:
        """Copy a tile's items, which are of one level, into this thread's buffers."""
        stored = items.first_encodings()
        count = len(items.positions)
        arrays = {
            name: self._buffer(name, padded_shape(name, stored, count, length))
            for name in LEVELS[stored.level]
        }
        lengths = np.empty(count, dtype=np.int64)
        for part, positions, run in items.runs():
            assert part.encodings is not None
            part.encodings.gather(positions, length, {name: a[run] for name, a in arrays.items()})
            lengths[run] = part.encodings.lengths[positions]
        if "tokens" in arrays:
            # Projecting sums all rows for the mean, padding too: here it must be zero.
            arrays["tokens"][np.arange(length) >= lengths[:, None]] = 0.0
        return BatchEncodings(lengths, arrays)

    def _buffer(self, name: str, shape: tuple[int, ...]) -> Floats:
        """Return this thread's memory for an array: the same for every tile, so it stays cached."""
        buffers: dict[str, Floats] = self._thread.__dict__.setdefault("buffers", {})
        size = math.prod(shape)
        if name not in buffers or buffers[name].size < size:
            buffers[name] = np.empty(size, dtype=np.float32)
        return buffers[name][:size].reshape(shape)


def cut_tiles(lengths: Lengths, items: LocatedItems, step: int) -> Sequence[Tile]:
    """Cut N items into tiles, each of one padded length and in the order in which it is stored.

    Args:
        lengths: (N,) tokens of each item.
        items: the same N items.
        step: lengths are padded up to a multiple of it.
    """
    padded = -(-lengths // step) * step
    # By padded length, and within one in stored order: neighbours on the disk are read together.
    order = np.lexsort((items.positions, items.array_of, padded))
    tiles = []
    for run in np.split(order, np.flatnonzero(np.diff(padded[order])) + 1):
        length = int(padded[run[0]])
        # Of long items fewer, so that all tiles take about as long and fit a core's cache.
        count = max(1, TILE_TOKENS // length)
        tiles += [Tile(run[start : start + count], length) for start in range(0, len(run), count)]
    # Long tiles first: the last one to finish is then a short one, and no thread waits long.
    return tiles[::-1]


def _at_least_two(places: Positions) -> Positions:
    """Return a tile's places (n,), twice where n is 1.

    ONNX Runtime sums along an axis in another order where the axis before it has length 1. An item
    that is left alone in its tile would score a last bit more or less than in company, and of two
    recipes that say the same, the later could then stand first in an answer that is certified.
    """
    return places if len(places) > 1 else np.repeat(places, 2)


def _cross_inputs(role: Role, encodings: BatchEncodings, vectors: Floats) -> dict[str, Array]:
    """Return what the cross branch reads of one role, in one group: a leading axis of 1."""
    inputs: dict[str, Array] = {
        f"{role}_{name}": array[None] for name, array in encodings.arrays.items()
    }
    inputs[f"{role}_global"] = vectors[None]
    if role == "recipe":
        inputs["recipe_lengths"] = encodings.lengths[None]
    return inputs
