"""Who scores the candidates of a batch of queries: `CpuScorer` here, or `GpuScorer` on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Protocol, TypeAlias

from hficma.types import Positions

from ..encoder import EncodedQuery
from ..index.candidates import CandidateBatch
from ..index.index import Index
from ..native.pair_kernel import PackedQuery
from .candidate_cache import CandidateCache, cache_shared_candidates
from .certificate import ItemScores
from .kernel_reranking import KernelReranker
from .located_items import LocatedItems
from .reranking import Reranker
from .timing import StageTimer

if TYPE_CHECKING:
    from ..bundle.bundle import Bundle

ScoreFunction: TypeAlias = Callable[[int, Positions], ItemScores]
"""Scores items: takes a query's number in its batch, and positions (K,) in the index."""


class Scorer(Protocol):
    """Scores queries against the items of one index, from any thread."""

    def prepare(
        self,
        queries: Sequence[EncodedQuery],
        first_batches: Sequence[CandidateBatch],
        timer: StageTimer,
        k: int,
    ) -> ScoreFunction:
        """Get ready for a batch of queries, sharing what they share, and return what scores them.

        Args:
            queries: of the batch.
            first_batches: what each of them is scored with first.
            timer: counts the copying of items as `gather`.
            k: ranks of the answer: scores of items that may be among them are exact, those of
                others may only be known to stand behind.
        """

    def prepare_exact(self, queries: Sequence[EncodedQuery], timer: StageTimer) -> ScoreFunction:
        """Return what scores items by the exact tokens that an index keeps beside shorter ones.

        Args:
            queries: of the batch.
            timer: counts the copying of items as `gather`.

        Raises:
            InputError: this scorer does not read them.
        """

    def close(self) -> None:
        """Release sessions and memory; nothing may be scored afterwards."""


class CpuScorer:
    """Scores on the processors, through the bundle's cross branch.

    Args:
        index: whose items are scored.
        bundle: of the index's model, its sessions of one thread each.
        pool: runs tiles of items, one a task.
    """

    def __init__(self, index: Index, bundle: Bundle, pool: Executor) -> None:
        self._index = index
        self._bundle = bundle
        self._pool = pool
        self._reranker = Reranker(bundle, index.facts.role, pool, bundle.score_weights)
        self._kernels: KernelReranker | None = None
        self._runtime_is_known = False

    def prepare(
        self,
        queries: Sequence[EncodedQuery],
        first_batches: Sequence[CandidateBatch],
        timer: StageTimer,
        k: int,
    ) -> ScoreFunction:
        """Bring the candidates that several queries share to memory; see `Scorer`."""
        cache = CandidateCache(self._index)
        if len(queries) > 1 and self._kernel_reranker() is None:
            facts = self._bundle.facts
            cache = cache_shared_candidates(
                self._index, self._reranker, first_batches,
                width=facts.width, heads=facts.heads,
            )  # fmt: skip
        return self._score_function(queries, cache.locate, timer)

    def prepare_exact(self, queries: Sequence[EncodedQuery], timer: StageTimer) -> ScoreFunction:
        """Score by exact tokens where they lie; see `Scorer`."""

        def locate(items: Positions) -> LocatedItems:
            return LocatedItems(self._index.exact_item_arrays, *self._index.locate(items))

        return self._score_function(queries, locate, timer)

    def _score_function(
        self,
        queries: Sequence[EncodedQuery],
        locate: Callable[[Positions], LocatedItems],
        timer: StageTimer,
    ) -> ScoreFunction:
        """Return what scores items where they are located."""
        kernels = self._kernel_reranker()
        packed: dict[int, PackedQuery] = {}

        def score(number: int, items: Positions) -> ItemScores:
            query = queries[number]
            if kernels is None or query.encodings is None:
                return self._reranker.score(query, locate(items), timer)
            if number not in packed:
                packed[number] = kernels.pack(query)
            return kernels.score(query, packed[number], locate(items), timer)

        return score

    def _kernel_reranker(self) -> KernelReranker | None:
        """Return what scores by the compiled kernels; None where another runtime is faster."""
        if not self._runtime_is_known:
            level = self._index.facts.level
            if level is not None:
                self._kernels = KernelReranker.of_bundle(
                    self._bundle, self._index.facts.role, level, self._pool
                )
            self._runtime_is_known = True
        return self._kernels

    def close(self) -> None:
        """Close the bundle."""
        self._bundle.close()
