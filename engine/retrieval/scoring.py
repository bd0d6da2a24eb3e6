"""Who scores a batch's candidates: the processors, through the bundle's cross branch.

`GpuScorer` does the same on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Protocol, TypeAlias

from ..index.candidates import CandidateBatch
from ..index.index import Index
from .candidate_cache import CandidateCache, cache_shared_candidates
from .certificate import ItemScores, Positions
from .reranking import EncodedQuery, Reranker

if TYPE_CHECKING:
    from ..bundle.bundle import Bundle

Score: TypeAlias = Callable[[int, Positions], tuple[ItemScores, float]]
"""A query's number in its batch and items (N,) of the index to their scores, and the seconds
spent gathering their sides, summed over threads."""


class Scorer(Protocol):
    """Scores queries against the items of one index, from any thread."""

    def batch(self, queries: Sequence[EncodedQuery], firsts: Sequence[CandidateBatch]) -> Score:
        """What scores the queries of one batch.

        Args:
            queries: of the batch.
            firsts: the items that each of them visits first.
        """

    def close(self) -> None:
        """Let go of sessions and memory; no batch may be asked for afterwards."""


class CpuScorer:
    """Scores on the processors.

    Args:
        index: whose items are scored.
        bundle: whose sessions use one thread each.
        pool: where tiles run.
    """

    def __init__(self, index: Index, bundle: Bundle, pool: Executor) -> None:
        self._index = index
        self._bundle = bundle
        self._facts = bundle.facts
        self._reranker = Reranker(bundle, index.facts.role, pool, bundle.score_weights)

    def close(self) -> None:
        """Close the bundle."""
        self._bundle.close()

    def batch(self, queries: Sequence[EncodedQuery], firsts: Sequence[CandidateBatch]) -> Score:
        """See `Scorer`; what several queries visit is brought to memory once."""
        loads = CandidateCache(self._index)
        if len(firsts) > 1:
            width, heads = self._facts.width, self._facts.heads
            loads = cache_shared_candidates(
                self._index, self._reranker, firsts, width=width, heads=heads
            )

        def score(number: int, items: Positions) -> tuple[ItemScores, float]:
            return self._reranker.score(queries[number], loads.parts, *loads.locate(items))

        return score
