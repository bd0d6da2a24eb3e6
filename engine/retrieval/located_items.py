"""Where the items to score lie: in which arrays, and at which position there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from hficma.types import Floats, Floats64, Lengths, Positions

from ..index.index import Index
from ..index.item_encoding import ItemArrays, StoredEncodings

ROWS_AT_ONCE = 1024
"""Vectors widened to float64 together: few enough to stay in a core's cache."""


class LocatedItems(NamedTuple):
    """N items, each named by the arrays that hold it and its position there.

    A shard's arrays hold its items; behind the shards may stand a cache of some of them:

        arrays       shard 0 | shard 1 | cache
        array_of     0   1   1   2            item 2 is the first of shard 1,
        positions    7   3   0   5            item 3 the sixth of the cache
    """

    arrays: Sequence[ItemArrays]
    """Of the shards, and of a cache behind them."""
    array_of: Positions
    """(N,) which of `arrays` holds an item."""
    positions: Positions
    """(N,) where it stands there."""

    @classmethod
    def of_index(cls, index: Index, items: Positions) -> LocatedItems:
        """Locate items of an index in its shards.

        Args:
            index: that holds them.
            items: (N,) positions in the index.
        """
        return cls(index.item_arrays, *index.locate(items))

    def select(self, places: Positions) -> LocatedItems:
        """Return some of the items.

        Args:
            places: (K,) where they stand among the N.
        """
        return LocatedItems(self.arrays, self.array_of[places], self.positions[places])

    def runs(self) -> Iterator[tuple[ItemArrays, Positions, slice]]:
        """Yield each run of neighbours that lie in the same arrays.

        Yields:
            the arrays, the items' positions in them, and the slice of the N items that they are.
        """
        borders = np.flatnonzero(np.diff(self.array_of)) + 1
        for start, stop in pairwise([0, *borders.tolist(), len(self.array_of)]):
            if start < stop:
                run = slice(start, stop)
                yield self.arrays[int(self.array_of[start])], self.positions[run], run

    def first_encodings(self) -> StoredEncodings:
        """Return the encodings that hold the first item: those of a tile are of one level."""
        encodings = self.arrays[int(self.array_of[0])].encodings
        assert encodings is not None  # of a model with a local part
        return encodings

    def lengths(self) -> Lengths:
        """Return the items' tokens, (N,), of a model with a local part."""
        lengths = np.empty(len(self.positions), np.int64)
        for arrays, positions, run in self.runs():
            assert arrays.encodings is not None
            lengths[run] = arrays.encodings.lengths[positions]
        return lengths

    def vectors(self) -> Floats:
        """Return a copy of the items' global vectors, (N, D_g) float32, for N at least 1."""
        return np.concatenate([arrays.vectors[positions] for arrays, positions, _ in self.runs()])

    def global_scores(self, vector: Floats) -> Floats64:
        """Return g, the inner product of each item's vector and a query's: (N,).

        Ties and certificates hang on its last bit, so it must be the same in any company: a matrix
        product orders its sums by the shapes it is given, these are summed row by row in float64.

        Args:
            vector: (D_g,) of the query.
        """
        wide = vector.astype(np.float64)
        scores = np.empty(len(self.positions))
        for number, arrays in enumerate(self.arrays):
            places = np.flatnonzero(self.array_of == number)
            for start in range(0, len(places), ROWS_AT_ONCE):
                block = places[start : start + ROWS_AT_ONCE]
                scores[block] = (arrays.vectors[self.positions[block]] * wide).sum(axis=1)
        return scores
