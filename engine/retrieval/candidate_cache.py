"""Candidates that several queries of a batch share, brought to tables once for all of them.

Photos of one batch often have candidates in common, and where an index keeps less than float32
tables, each query would widen, project or tabulate them again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from hficma.types import Positions

from ..index.candidates import CandidateBatch
from ..index.index import Index
from ..index.item_encoding import ItemArrays, bytes_per_token
from .located_items import LocatedItems

CACHE_BYTES = 1 << 30
"""Memory that the shared candidates of a batch may take."""

_log = logging.getLogger("hficma")


class CandidateCache:
    """Locates an index's items, some of them in memory instead of their shards.

    Args:
        index: whose items they are.
        cached: (n,) positions in the index of those in memory, rising.
        arrays: that hold them; None where there are none.
        positions: (n,) where they stand in `arrays`.
    """

    def __init__(
        self,
        index: Index,
        cached: Positions | None = None,
        arrays: ItemArrays | None = None,
        positions: Positions | None = None,
    ) -> None:
        nothing = np.empty(0, np.int64)
        self._index = index
        self._cached = nothing if cached is None else cached
        self._positions = nothing if positions is None else positions
        self._arrays = index.item_arrays if arrays is None else [*index.item_arrays, arrays]

    def locate(self, items: Positions) -> LocatedItems:
        """Return where items lie: in the cache if they are there, else in their shard.

        Args:
            items: (N,) positions in the index.
        """
        array_of, positions = self._index.locate(items)
        if len(self._cached):
            places = np.searchsorted(self._cached, items)
            # An item behind the last has no place: any will do, as it differs from what is there.
            places[places == len(self._cached)] = 0
            hits = self._cached[places] == items
            array_of = np.where(hits, len(self._arrays) - 1, array_of)
            positions = np.where(hits, self._positions[places], positions)
        return LocatedItems(self._arrays, array_of, positions)


def cache_shared_candidates(
    index: Index,
    tabulate: Callable[[LocatedItems], tuple[ItemArrays, Positions]],
    batches: Sequence[CandidateBatch],
    *,
    width: int,
    heads: int,
) -> CandidateCache:
    """Bring what at least two queries will score to `tables` in memory.

    Nothing is cached where the index keeps float32 tables, which are read where they lie. Where the
    shared candidates would not fit `CACHE_BYTES`, those that most queries share are.

    Args:
        index: whose items the candidates are.
        tabulate: brings N items to `tables` in memory, and returns them with where each of the N
            stands among them.
        batches: first candidates of each query.
        width: D.
        heads: H.
    """
    facts = index.facts
    if facts.level is None or (facts.level == "tables" and facts.encoding_precision == "fp32"):
        return CandidateCache(index)
    items, counts = np.unique(
        np.concatenate([batch.items for batch in batches]), return_counts=True
    )
    items, counts = items[counts > 1], counts[counts > 1]
    if not len(items):
        return CandidateCache(index)
    tokens = LocatedItems.of_index(index, items).lengths()
    sizes = tokens * bytes_per_token("tables", "fp32", width, heads)
    most_shared = np.argsort(-counts, kind="stable")
    fit = int(np.searchsorted(np.cumsum(sizes[most_shared]), CACHE_BYTES, side="right"))
    if fit < len(items):
        _log.info(
            "%s: %s candidates that queries share would take %.1f GB in memory; those of them that "
            "fewest share are read by each query itself, in smaller batches more are shared",
            index.path, f"{len(items):,}", int(sizes.sum()) / 1e9,
        )  # fmt: skip
    items = np.sort(items[most_shared[:fit]])
    if not len(items):
        return CandidateCache(index)
    return CandidateCache(index, items, *tabulate(LocatedItems.of_index(index, items)))
