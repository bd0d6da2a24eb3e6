"""Searches from photos that are encoded already: what an index of some form takes of the time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from hficma.artifacts.closing import Closing
from hficma.engine.encoder import EncodedQuery, ModelInput, prepare_queries
from hficma.engine.index.index import Index
from hficma.engine.index.item_encoding import Role
from hficma.engine.opening import open_index_and_bundle, open_pool, open_scorer
from hficma.engine.results import Answer
from hficma.engine.retrieval.search import Searcher, SearchOptions
from hficma.engine.retrieval.timing import StageTimer
from hficma.engine.runtimes.options import ExecutionOptions

from ..common.synthetic_index import synthetic_photos

RANKS = 10
WARM_UP = 8
"""Searches before the first that counts: the engine compares its ways of scoring in the first."""


class EncodedSearches(Closing):
    """A synthetic index that is searched with photos encoded beforehand, as an engine searches.

    Args:
        path: of an index of `synthetic_index`.
        bundle: whose model it is of.
        candidates: K, items re-ranked.
        threads: of the engine.
    """

    def __init__(self, path: Path, bundle: Path, *, candidates: int, threads: int) -> None:
        self._options = SearchOptions(RANKS, candidates, exact=False, filter=None)
        self._query: list[EncodedQuery] = []
        options = ExecutionOptions(threads=threads)
        with ExitStack() as stack:
            self.index, self._bundle = open_index_and_bundle(
                Index, stack, path, options, bundle=bundle, photos=None, crops=None
            )
            self.pool = open_pool(threads)
            stack.callback(self.pool.shutdown)
            scorer = open_scorer(self.index, self._bundle, options, self.pool, gpu_memory=None)
            self._searcher = Searcher(
                self.index, self._bundle, scorer, self.pool, self._encoded_before
            )
            stack.callback(self._searcher.close)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Close index and bundle."""
        self._stack.close()

    def warmed_up(self, count: int) -> list[EncodedQuery]:
        """Return photos to search with, after some searches with others.

        Args:
            count: N.
        """
        photos = synthetic_photos(self._bundle, WARM_UP + count)
        queries = prepare_queries(self._bundle, "image", photos)
        for query in queries[:WARM_UP]:
            self.search(query)
        return queries[WARM_UP:]

    def search(self, query: EncodedQuery) -> Answer:
        """Return the answer to a photo; its time has nothing of encoding it."""
        self._query = [query]
        nothing = np.zeros((1, 1, 3), np.uint8)  # stands for pixels, which nobody encodes
        return self._searcher.search([nothing], self._options, StageTimer())[0]

    def _encoded_before(self, role: Role, inputs: Sequence[ModelInput]) -> list[EncodedQuery]:
        """Return the query of `search` in the place of encoding it."""
        return self._query
