"""S of one query and many items: sides gathered in small tiles, scored by the cross branch.

A tile holds items of one padded length, which follows from the item alone, so an item's score
does not depend on what else is in its tile. Tiles are small enough for their sides to stay in
a core's cache between the copy and the products, and each runs on one thread of the pool.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from hficma.errors import ArtifactError
from hficma.scores import ScoreWeights

from ..encoder import raise_level
from ..index.item_encoding import (
    LEVELS,
    ItemArrays,
    RaggedEncodings,
    Role,
    StoredEncodings,
    rows_of,
    shape_of,
)
from .certificate import ItemScores

if TYPE_CHECKING:
    from ..bundle.bundle import Bundle

TILE_TOKENS = 320
"""Tokens of a tile's items, padding included: 16 recipes of 20 ingredients, 6 photos."""
LENGTH_STEP = 2
"""Lengths are padded up to a multiple of this: fewer, fuller tiles for little padding."""

Positions = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class EncodedQuery(NamedTuple):
    """One photo or recipe, ready for scoring."""

    vector: Floats
    """(D_g,) global vector."""
    encodings: RaggedEncodings | None
    """N = 1, at level `tables`; None without a local part."""

    def refuse_not_finite(self) -> None:
        """Raise an ArtifactError for a query that no score can be computed with."""
        arrays = [self.vector, *(self.encodings.arrays.values() if self.encodings else ())]
        if not all(np.isfinite(array).all() for array in arrays):
            raise ArtifactError(
                "the model gives this query a vector that is not finite: its weights are damaged, "
                "or the precision is too narrow; export the bundle again, or take --precision fp32"
            )

    @classmethod
    def prepared(
        cls, bundle: Bundle, role: Role, vectors: Floats, encodings: RaggedEncodings | None
    ) -> list[EncodedQuery]:
        """Queries from what the branches give: (N, D_g) and sides at level `tokens`."""
        if encodings is None:
            return [cls(vector, None) for vector in vectors]
        queries = []
        for i, vector in enumerate(vectors):
            length = int(encodings.lengths[i])
            tokens = np.ascontiguousarray(encodings.arrays["tokens"][i : i + 1, :length])
            alone = RaggedEncodings(encodings.lengths[i : i + 1], {"tokens": tokens})
            queries.append(cls(vector, raise_level(bundle, role, alone, "tables")))
        return queries


class Tile(NamedTuple):
    """Items scored in one run of the cross branch."""

    places: Positions
    """(m,) where the items stand among those to score."""
    size: int
    """Tokens that each is padded to."""


class Reranker:
    """Scores items of an index, from any thread.

    Args:
        bundle: whose sessions use one thread each.
        role: of the items.
        pool: where tiles run.
        weights: w_g and w_l.
    """

    def __init__(self, bundle: Bundle, role: Role, pool: Executor, weights: ScoreWeights) -> None:
        self._bundle = bundle
        self._role: Role = role
        self._pool = pool
        self._weights = weights
        self._local = threading.local()

    def score(
        self,
        query: EncodedQuery,
        parts: Sequence[ItemArrays],
        part_of: Positions,
        positions: Positions,
    ) -> tuple[ItemScores, float]:
        """Score items for a query.

        Args:
            query: of the other role.
            parts: where items lie.
            part_of: (N,) the part of each item.
            positions: (N,) its position there.

        Returns:
            the scores, and seconds spent gathering, summed over threads.
        """
        global_ = exact_products(query.vector, parts, part_of, positions)
        local = np.zeros(len(positions))
        gathering = 0.0
        if query.encodings is not None and len(positions):
            tiles = self._tiles(parts, part_of, positions)
            runs = self._pool.map(
                lambda tile: self._run(
                    query, parts, part_of[tile.places], positions[tile.places], tile.size
                ),
                tiles,
            )
            for tile, (values, seconds) in zip(tiles, runs, strict=True):
                local[tile.places] = values
                gathering += seconds
        return ItemScores(self._weights.total(global_, local), global_, local), gathering

    def tabulated(
        self, parts: Sequence[ItemArrays], part_of: Positions, positions: Positions
    ) -> tuple[ItemArrays, Positions]:
        """Items that several queries will read, brought to `tables` in memory once for all.

        Returns:
            the items, and the position there of each item given.
        """
        tiles = self._tiles(parts, part_of, positions)

        def raised(tile: Tile) -> tuple[Positions, dict[str, Floats]]:
            count = len(tile.places)
            mine = _at_least_two(part_of[tile.places]), _at_least_two(positions[tile.places])
            encodings = self._gathered(parts, *mine, tile.size)
            encodings = raise_level(self._bundle, self._role, encodings, "tables")
            alone = RaggedEncodings(
                encodings.lengths[:count], {n: a[:count] for n, a in encodings.arrays.items()}
            )
            # Copied, for the next tile comes into the same buffers.
            return alone.lengths, {n: np.array(rows_of(alone, n)) for n in LEVELS["tables"]}

        made = list(self._pool.map(raised, tiles))
        order = np.concatenate([tile.places for tile in tiles])
        heads = self._bundle.facts.heads
        arrays = {
            name: np.concatenate([rows[name] for _, rows in made]) for name in LEVELS["tables"]
        }
        encodings = StoredEncodings(np.concatenate([lengths for lengths, _ in made]), arrays, heads)
        vectors = np.concatenate(
            [parts[part_of[i]].vectors[positions[i] : positions[i] + 1] for i in order]
        )
        return ItemArrays(vectors, encodings), np.argsort(order)

    def _tiles(
        self, parts: Sequence[ItemArrays], part_of: Positions, positions: Positions
    ) -> list[Tile]:
        """Tiles of all items, each of one level and one padded length."""
        lengths = np.empty(len(positions), dtype=np.int64)
        levels = np.empty(len(positions), dtype=np.int64)
        for number, part in enumerate(parts):
            mine = part_of == number
            assert part.encodings is not None
            lengths[mine] = part.encodings.lengths[positions[mine]]
            levels[mine] = list(LEVELS).index(part.encodings.level)
        # Photos have all their regions: padding is for recipes.
        multiple = 1 if self._role == "image" else LENGTH_STEP
        return [
            Tile(places[tile.places], tile.size)
            for level in np.unique(levels)
            for places in [np.flatnonzero(levels == level)]
            for tile in cut_tiles(lengths[places], part_of[places], positions[places], multiple)
        ]

    def _run(
        self,
        query: EncodedQuery,
        parts: Sequence[ItemArrays],
        part_of: Positions,
        positions: Positions,
        size: int,
    ) -> tuple[Floats, float]:
        began = time.perf_counter()
        count = len(positions)
        part_of, positions = _at_least_two(part_of), _at_least_two(positions)
        encodings = self._gathered(parts, part_of, positions, size)
        vectors = np.concatenate(
            [parts[part].vectors[positions[run]] for part, run in _runs(part_of)]
        )
        gathered = time.perf_counter() - began
        assert query.encodings is not None
        if "tokens" in encodings.arrays:
            encodings = raise_level(self._bundle, self._role, encodings, "projections")
        other: Role = "image" if self._role == "recipe" else "recipe"
        inputs = {
            **_inputs(self._role, encodings, vectors),
            **_inputs(other, query.encodings, query.vector[None]),
        }
        level = "tables" if "table" in encodings.arrays else f"{self._role}_projections"
        values = self._bundle.run(f"cross_{level}", inputs)["local"].reshape(-1)
        return values[:count], gathered

    def _gathered(
        self, parts: Sequence[ItemArrays], part_of: Positions, positions: Positions, size: int
    ) -> RaggedEncodings:
        """A tile's sides in this thread's buffers; the tile is ordered by part."""
        first = parts[int(part_of[0])].encodings
        assert first is not None
        count = len(positions)
        out = {
            name: self._buffer(name, shape)
            for name, shape in _gathered_shapes(first, count, size).items()
        }
        lengths = np.empty(count, dtype=np.int64)
        for number, run in _runs(part_of):
            encodings = parts[number].encodings
            assert encodings is not None
            encodings.gather(
                positions[run], size, {name: array[run] for name, array in out.items()}
            )
            lengths[run] = encodings.lengths[positions[run]]
        if "tokens" in out:
            # The mean of a side is the sum of its rows: here padding must be zero.
            out["tokens"][np.arange(size) >= lengths[:, None]] = 0.0
        return RaggedEncodings(lengths, out)

    def _buffer(self, name: str, shape: tuple[int, ...]) -> Floats:
        """A thread's own memory for an array: the same for every tile, so it stays cached."""
        buffers: dict[str, Floats] = self._local.__dict__.setdefault("buffers", {})
        wanted = math.prod(shape)
        if name not in buffers or buffers[name].size < wanted:
            buffers[name] = np.empty(wanted, dtype=np.float32)
        return buffers[name][:wanted].reshape(shape)


def cut_tiles(
    lengths: Positions, part_of: Positions, positions: Positions, multiple: int
) -> list[Tile]:
    """Cut N items into tiles of one padded length each, in the order in which they are stored."""
    padded = -(-lengths // multiple) * multiple
    order = np.lexsort((positions, part_of, padded))
    tiles = []
    borders = np.flatnonzero(np.diff(padded[order])) + 1
    for run in np.split(order, borders):
        size = int(padded[run[0]])
        step = max(1, TILE_TOKENS // size)
        tiles += [Tile(run[start : start + step], size) for start in range(0, len(run), step)]
    # Long tiles first: the last one to finish is then a short one.
    return tiles[::-1]


def _at_least_two(one_or_more: Positions) -> Positions:
    """Return a tile's (m,) array, twice where m is 1.

    ONNX Runtime sums along an axis in another order where the axis before it has length 1. An item
    that is left alone in its tile would score a last bit more or less than in company, and of two
    recipes that say the same, the later could then stand first in an answer that is certified.
    """
    return one_or_more if len(one_or_more) > 1 else np.repeat(one_or_more, 2)


def _runs(part_of: Positions) -> list[tuple[int, slice]]:
    """The parts in an ordered (m,) array, and where each stands."""
    borders = [0, *(np.flatnonzero(np.diff(part_of)) + 1).tolist(), len(part_of)]
    return [(int(part_of[start]), slice(start, stop)) for start, stop in pairwise(borders)]


def exact_products(
    query: Floats, parts: Sequence[ItemArrays], part_of: Positions, positions: Positions
) -> npt.NDArray[np.float64]:
    """g of items (N,): summed row by row in float64, so that it is the same in any company."""
    wide = query.astype(np.float64)
    products = np.empty(len(positions))
    for number, part in enumerate(parts):
        mine = np.flatnonzero(part_of == number)
        for start in range(0, len(mine), 1024):
            run = mine[start : start + 1024]
            products[run] = (part.vectors[positions[run]] * wide).sum(axis=1)
    return products


def _gathered_shapes(
    encodings: StoredEncodings, count: int, size: int
) -> Mapping[str, tuple[int, ...]]:
    return {name: shape_of(name, encodings, count, size) for name in LEVELS[encodings.level]}


def _inputs(
    role: Role, encodings: RaggedEncodings, vectors: Floats
) -> dict[str, npt.NDArray[np.generic]]:
    """What the cross branch reads of one role, as one group."""
    inputs: dict[str, npt.NDArray[np.generic]] = {
        f"{role}_{name}": array[None] for name, array in encodings.arrays.items()
    }
    inputs[f"{role}_global"] = vectors[None]
    if role == "recipe":
        inputs["recipe_lengths"] = encodings.lengths[None]
    return inputs
