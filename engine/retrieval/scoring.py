"""Who scores the candidates of a batch of queries: `CpuScorer` here, or `GpuScorer` on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from hficma.types import Positions

from ..encoder import EncodedQuery
from ..index.candidates import CandidateBatch
from ..index.index import Index
from ..results import ErrorBound
from .candidate_cache import CandidateCache, cache_shared_candidates
from .certificate import ItemScores, RescoredItems
from .kernel_reranking import ItemSource, KernelQuery, KernelReranker, SharedTables
from .kernel_tiles import tabulate
from .located_items import LocatedItems
from .reranking import Reranker
from .screening import QueryState
from .timing import StageTimer

if TYPE_CHECKING:
    from ..bundle.bundle import Bundle

ScoreFunction: TypeAlias = Callable[[int, Positions], ItemScores]
"""Scores items: takes a query's number in its batch, and positions (K,) in the index."""


def _nothing_screened(_number: int) -> None:
    """Rescore nothing: all scores are exact."""


class BatchScorer(NamedTuple):
    """Scores the queries of one batch."""

    score: ScoreFunction
    """Scores items that were not scored before."""
    rescore: Callable[[int], RescoredItems | None] = _nothing_screened
    """Scores again what was only screened and may belong to the answer since ε grew: takes a
    query's number; None where nothing was. Asked when all rankings stand."""


class Scorer(Protocol):
    """Scores queries against the items of one index, from any thread."""

    def prepare(
        self,
        queries: Sequence[EncodedQuery],
        first_batches: Sequence[CandidateBatch],
        timer: StageTimer,
        k: int,
    ) -> BatchScorer:
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

    @property
    def screen_bound(self) -> ErrorBound | None:
        """Return how far the 16-bit scores that candidates are screened by may be off, now.

        None where all scores are float32's.
        """

    def close(self) -> None:
        """Release sessions and memory; nothing may be scored afterwards."""


class CpuScorer:
    """Scores on the processors, through the bundle's cross branch.

    Args:
        index: whose items are scored.
        bundle: of the index's model, its sessions of one thread each.
        pool: runs tiles of items, one a task.
        screened: whether the compiled kernels may score in bfloat16 first.
    """

    def __init__(
        self, index: Index, bundle: Bundle, pool: Executor, *, screened: bool = True
    ) -> None:
        self._index = index
        self._bundle = bundle
        self._pool = pool
        self._screened = screened
        self._reranker = Reranker(bundle, index.facts.role, pool, bundle.score_weights)
        self._kernels: KernelReranker | None = None
        self._runtime_is_known = False

    def prepare(
        self,
        queries: Sequence[EncodedQuery],
        first_batches: Sequence[CandidateBatch],
        timer: StageTimer,
        k: int,
    ) -> BatchScorer:
        """Bring the candidates that several queries share to memory; see `Scorer`."""
        kernels = self._kernel_reranker()
        if kernels is not None:
            return self._by_kernels(kernels, queries, first_batches, timer, k)
        cache = CandidateCache(self._index)
        if len(queries) > 1:
            facts = self._bundle.facts
            cache = cache_shared_candidates(
                self._index, self._reranker.tabulate, first_batches,
                width=facts.width, heads=facts.heads,
            )  # fmt: skip

        def score(number: int, items: Positions) -> ItemScores:
            return self._reranker.score(queries[number], cache.locate(items), timer)

        return BatchScorer(score)

    def prepare_exact(self, queries: Sequence[EncodedQuery], timer: StageTimer) -> ScoreFunction:
        """Score by exact tokens where they lie; see `Scorer`."""
        kernels = self._kernel_reranker()
        of_kernels = self._kernel_queries(queries, k=1)  # not screened: no rank is looked at

        def score(number: int, items: Positions) -> ItemScores:
            located = LocatedItems(self._index.exact_item_arrays, *self._index.locate(items))
            if kernels is None:
                return self._reranker.score(queries[number], located, timer)
            source = ItemSource(located)
            return kernels.score_exactly(of_kernels[number], source, timer, self._pool)

        return score

    def _by_kernels(
        self,
        kernels: KernelReranker,
        queries: Sequence[EncodedQuery],
        first_batches: Sequence[CandidateBatch],
        timer: StageTimer,
        k: int,
    ) -> BatchScorer:
        """Score by the compiled kernels, of several queries each on one thread; see `prepare`."""
        of_kernels = self._kernel_queries(queries, k)
        kernel, cache = kernels.first_kernel, None
        if len(queries) > 1 and self._index.facts.level != "tables":
            cache = cache_shared_candidates(
                self._index,
                lambda items: tabulate(kernel, items, timer, self._pool),
                first_batches,
                width=self._bundle.facts.width,
                heads=self._bundle.facts.heads,
            )

        def locate(items: Positions) -> ItemSource:
            shared = None if cache is None else SharedTables(kernel, cache.locate(items))
            return ItemSource(LocatedItems.of_index(self._index, items), shared)

        def run(number: int, items: Positions, pool: Executor | None) -> ItemScores:
            return kernels.score(of_kernels[number], items, locate(items), timer, pool)

        def rescore(number: int) -> RescoredItems | None:
            return kernels.rescore(of_kernels[number], locate, timer, self._pool)

        if len(queries) == 1:
            return BatchScorer(lambda number, items: run(number, items, self._pool), rescore)
        # A query on a thread: no thread waits for another's tile, and Python's own work on a query
        # runs beside the kernels' on another.
        numbers = range(len(queries))
        first = list(
            self._pool.map(lambda number: run(number, first_batches[number].items, None), numbers)
        )

        def score(number: int, items: Positions) -> ItemScores:
            # The ranking begins with the very array of its first batch, which is scored already.
            if items is first_batches[number].items:
                return first[number]
            return run(number, items, self._pool)

        return BatchScorer(score, rescore)

    def _kernel_queries(self, queries: Sequence[EncodedQuery], k: int) -> list[KernelQuery]:
        """Return queries as the compiled kernels read them, of whose items nothing is known."""
        weights = self._bundle.score_weights
        return [KernelQuery(query, QueryState(weights, k)) for query in queries]

    @property
    def is_screened(self) -> bool:
        """Whether pairs are scored in bfloat16 first: known after an engine's fourth search."""
        kernels = self._kernel_reranker()
        return kernels is not None and kernels.screen is not None and kernels.bound is not None

    @property
    def screen_bound(self) -> ErrorBound | None:
        """Return how far a screen in bfloat16 may be off; see `Scorer`."""
        return None if self._kernels is None else self._kernels.screen_bound

    def _kernel_reranker(self) -> KernelReranker | None:
        """Return what scores by the compiled kernels; None where another runtime is faster."""
        if not self._runtime_is_known:
            level = self._index.facts.level
            if level is not None:
                role = self._index.facts.role
                self._kernels = KernelReranker.of_bundle(
                    self._bundle, role, level, screened=self._screened
                )
            self._runtime_is_known = True
        return self._kernels

    def close(self) -> None:
        """Close the bundle."""
        self._bundle.close()
