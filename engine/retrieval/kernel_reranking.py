"""Re-rank with the compiled kernels: in bfloat16 first, where that pays, and the best in float32.

The first searches of an index are scored in float32, and all but the very first in bfloat16 too:
that tells how long each takes on this machine, and whether the two are as near to each other as
they are for other models. From then on, where it pays, all candidates are scored in bfloat16, and
in float32 only those that may be among the k best (`screening`).
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hficma.scores import ScoreWeights
from hficma.types import Floats64, Positions

from ..encoder import EncodedQuery
from ..index.item_encoding import Level, Role
from ..native.library import SCREEN, MissingKernelsError
from ..native.pair_kernel import PackedQuery, PairKernel
from ..results import ErrorBound
from .certificate import ItemScores, RescoredItems
from .kernel_tiles import local_scores, pack
from .located_items import LocatedItems
from .screening import Choice, QueryState, ScreenBound, refine
from .timing import StageTimer

if TYPE_CHECKING:
    from ..bundle.bundle import Bundle

MEASURED = 3
"""Searches that are scored both ways before bfloat16 is relied on."""
LEAST_ITEMS = 64
"""Items of a search that is measured, or screened: of fewer, most would be scored twice."""
PAYS = 0.7
"""Share of float32's time that bfloat16 may take, since the best are scored twice."""

_log = logging.getLogger("hficma")


class KernelQuery:
    """A query as the kernels read it, and what is known of its items.

    Args:
        query: encoded.
        state: of its items.
    """

    def __init__(self, query: EncodedQuery, state: QueryState) -> None:
        self.query = query
        self.state = state
        self._packed: dict[str, PackedQuery] = {}

    def packed(self, kernel: PairKernel) -> PackedQuery:
        """Return the query in the layout of a kernel."""
        if kernel.kind not in self._packed:
            self._packed[kernel.kind] = pack(kernel, self.query)
        return self._packed[kernel.kind]


class SharedTables(NamedTuple):
    """Items of which some were brought to `tables` in memory, since several queries read them."""

    kernel: PairKernel
    """That did, and alone may read them: another rounds otherwise."""
    items: LocatedItems
    """All of them, in memory or where they are stored."""


class ItemSource(NamedTuple):
    """Where items are read."""

    stored: LocatedItems
    """As they are stored."""
    shared: SharedTables | None = None
    """The same items, some of them computed for several queries; None where none is."""

    def read_by(self, kernel: PairKernel) -> LocatedItems:
        """Return the items as a kernel may read them."""
        if self.shared is None or self.shared.kernel is not kernel:
            return self.stored
        return self.shared.items


class KernelReranker:
    """Scores items of an index for queries; any number of threads may share it.

    Args:
        exact: the kernel in float32, of the items' role and level.
        screen: the same in bfloat16; None where the processor has none.
        weights: w_g and w_l.
        rounding_scale: returns the scale of the model, as `bundle_rounding_scale` does; called
            once, when bfloat16 is first measured.
    """

    def __init__(
        self,
        exact: PairKernel,
        screen: PairKernel | None,
        weights: ScoreWeights,
        rounding_scale: Callable[[], float],
    ) -> None:
        self._exact = exact
        self._weights = weights
        self.screen = screen
        """What is scored by first; None where there is none, or it does not pay."""
        self.bound: ScreenBound | None = None
        """How far it may be from float32; None until that was measured."""
        self._rounding_scale = rounding_scale
        self._measured: ScreenBound | None = None
        self._searches = 0
        self._lock = threading.Lock()
        self._seconds: dict[PairKernel | None, float] = {exact: math.inf, screen: math.inf}
        """The least that either took of an item: what else the machine does only adds."""

    @classmethod
    def of_bundle(
        cls, bundle: Bundle, role: Role, level: Level, *, screened: bool = True
    ) -> KernelReranker | None:
        """Return what re-ranks items of a role; None where another runtime scores their pairs.

        Args:
            bundle: of the index's model, in float32.
            role: of the items.
            level: at which they are stored.
            screened: whether bfloat16 may be tried first.
        """
        from ..bundle.rounding import bundle_rounding_scale
        from ..runtimes.native_backend import NativeRuntime

        graph = "cross_tables" if level == "tables" else f"cross_{role}_projections"
        runtime = bundle.runtime(graph)
        if not isinstance(runtime, NativeRuntime):
            return None
        projection = bundle.graph(f"project_{role}") if level == "tokens" else None
        if projection is not None and projection.precision != "fp32":
            return None
        screen = None
        if screened:
            with contextlib.suppress(MissingKernelsError):
                screen = runtime.kernel(role, projection=projection, kind=SCREEN)
        exact = runtime.kernel(role, projection=projection)
        return cls(exact, screen, bundle.score_weights, partial(bundle_rounding_scale, bundle))

    @property
    def screen_bound(self) -> ErrorBound | None:
        """Return how far the screen may be off; None where nothing is screened."""
        bound = self.bound
        return None if bound is None or self.screen is None else bound.fact

    @property
    def first_kernel(self) -> PairKernel:
        """Return the kernel that scores all items of a search, if it is not one that measures."""
        screen = self.screen
        return self._exact if screen is None or self.bound is None else screen

    def score(
        self,
        query: KernelQuery,
        items: Positions,
        source: ItemSource,
        timer: StageTimer,
        pool: Executor | None,
    ) -> ItemScores:
        """Score N items for a query: exactly those that may be among the k best so far.

        Args:
            query: of the other role than the items.
            items: (N,) positions in the index.
            source: where the same items are read.
            timer: counts what is copied of items as `gather`, summed over threads.
            pool: runs tiles, one a task; None runs them here.
        """
        state = query.state
        count = len(items)
        screen = self.screen  # read once: a search on another thread may give it up meanwhile
        if screen is None or count < max(LEAST_ITEMS, 3 * state.best.k):
            return state.add_exact(self.score_exactly(query, source, timer, pool))
        global_ = source.stored.global_scores(query.query.vector)

        def run(kernel: PairKernel) -> Floats64:
            return local_scores(kernel, query.packed(kernel), source.read_by(kernel), timer, pool)

        if self.bound is None:
            local = self._measure(run, screen)
            total = self._weights.total(global_, local)
            return state.add_exact(ItemScores(total, global_, local))
        batch = state.add_screened(items, global_, run(screen))
        refine([batch], self.bound, self._exact_scores(query, lambda _: source, timer, pool))
        return batch.scores

    def score_exactly(
        self, query: KernelQuery, source: ItemSource, timer: StageTimer, pool: Executor | None
    ) -> ItemScores:
        """Score all of N items in float32; the arguments are those of `score`."""
        global_ = source.stored.global_scores(query.query.vector)
        items = source.read_by(self._exact)
        local = np.zeros(0)
        if len(global_):
            local = local_scores(self._exact, query.packed(self._exact), items, timer, pool)
        return ItemScores(self._weights.total(global_, local), global_, local)

    def rescore(
        self,
        query: KernelQuery,
        locate: Callable[[Positions], ItemSource],
        timer: StageTimer,
        pool: Executor | None,
    ) -> RescoredItems | None:
        """Score again what may be among the k best since ε grew; see `QueryState.rescored`.

        Args:
            query: whose items were scored.
            locate: returns where items at some positions are read.
            timer: as of `score`, like `pool`.
            pool: runs tiles.
        """
        if self.bound is None:
            return None
        scores = self._exact_scores(query, locate, timer, pool)
        return query.state.rescored(self.bound, scores)

    def _exact_scores(
        self,
        query: KernelQuery,
        locate: Callable[[Positions], ItemSource],
        timer: StageTimer,
        pool: Executor | None,
    ) -> Callable[[Sequence[Choice]], list[Floats64]]:
        """Return what scores chosen items in float32."""
        kernel = self._exact

        def score(choices: Sequence[Choice]) -> list[Floats64]:
            return [
                local_scores(
                    kernel, query.packed(kernel),
                    locate(batch.items).read_by(kernel).select(places), timer, pool,
                )
                for batch, places in choices
            ]  # fmt: skip

        return score

    def _measure(self, run: Callable[[PairKernel], Floats64], screen: PairKernel) -> Floats64:
        """Score in float32 and, but for the first search, in bfloat16; return float32's scores."""
        with self._lock:
            self._searches += 1
            number = self._searches
            if number > 1 and self._measured is None:
                self._measured = ScreenBound("bf16", self._rounding_scale(), first_pairs=0)
            measured = self._measured
        if measured is None:
            return run(self._exact)  # which warms up, and is all that a single search needs
        scores = []
        for kernel in (self._exact, screen):
            began = time.perf_counter()
            scores.append(run(kernel))
            seconds = (time.perf_counter() - began) / len(scores[-1])
            self._seconds[kernel] = min(self._seconds[kernel], seconds)
        exact, screened = scores
        measured.watch(screened, exact)
        if number > MEASURED:
            share = self._seconds[screen] / self._seconds[self._exact]
            _log.info(
                "bfloat16 scores pairs in %.0f %% of float32's time, at most %.1e off",
                100 * share, measured.largest,
            )  # fmt: skip
            if share <= PAYS:
                self.bound = measured
            else:
                self.screen = None
        return exact
