"""Where the candidates of a batch are read from: the index, or memory where queries share them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..index.candidates import CandidateBatch
from ..index.index import Index
from ..index.item_encoding import ItemArrays, bytes_a_token
from .reranking import Reranker

SHARED_BYTES = 1 << 30
"""Memory that the shared candidates of a batch may take."""

Positions = npt.NDArray[np.int64]


class CandidateCache:
    """The index's items, some of them brought to `tables` in memory.

    Args:
        index: all items.
        shared: positions of those in memory (n,), rising.
        part: where they are.
        places: (n,) their positions there.
    """

    def __init__(
        self,
        index: Index,
        shared: Positions | None = None,
        part: ItemArrays | None = None,
        places: Positions | None = None,
    ) -> None:
        self._index = index
        self._shared = np.empty(0, np.int64) if shared is None else shared
        self._places = self._shared if places is None else places
        self.parts: list[ItemArrays] = (
            index.item_arrays if part is None else [*index.item_arrays, part]
        )

    def locate(self, positions: Positions) -> tuple[Positions, Positions]:
        """The part of each item (N,), and its position there (N,)."""
        part_of, places = self._index.locate(positions)
        if len(self._shared):
            found = np.searchsorted(self._shared, positions)
            found[found == len(self._shared)] = 0
            here = self._shared[found] == positions
            part_of = np.where(here, len(self.parts) - 1, part_of)
            places = np.where(here, self._places[found], places)
        return part_of, places


def cache_shared_candidates(
    index: Index, reranker: Reranker, visits: Sequence[CandidateBatch], *, width: int, heads: int
) -> CandidateCache:
    """Bring what several queries of a batch will score to `tables`, once for all of them.

    Nothing is to be gained where the index keeps float32 tables, or where the memory is not
    enough.

    Args:
        index: all items.
        reranker: brings them to `tables`.
        visits: the batch's candidates.
        width: D.
        heads: H.
    """
    facts = index.facts
    if facts.level is None or (facts.level == "tables" and facts.encoding_precision == "fp32"):
        return CandidateCache(index)
    items, counts = np.unique(np.concatenate([v.items for v in visits]), return_counts=True)
    items = items[counts > 1]
    size = _tokens(index, items) * bytes_a_token("tables", "fp32", width, heads)
    if not len(items) or size > SHARED_BYTES:
        return CandidateCache(index)
    return CandidateCache(
        index, items, *reranker.tabulated(index.item_arrays, *index.locate(items))
    )


def _tokens(index: Index, items: Positions) -> int:
    shard_of, places = index.locate(items)
    tokens = 0
    for number in np.unique(shard_of):
        encodings = index.item_arrays[number].encodings
        assert encodings is not None
        tokens += int(encodings.lengths[places[shard_of == number]].sum())
    return tokens
