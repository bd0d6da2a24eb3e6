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
from collections.abc import Callable
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
from .certificate import ItemScores
from .kernel_tiles import local_scores, pack
from .located_items import LocatedItems
from .screening import ScreenBound, largest, to_refine
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


class QueryState:
    """What is known of one query while its items are scored, batch after batch.

    Args:
        query: encoded.
    """

    def __init__(self, query: EncodedQuery) -> None:
        self.query = query
        self.packed: dict[str, PackedQuery] = {}
        """By the kind of kernel that reads it."""
        self.best = np.empty(0)
        """S of the best items that were scored exactly, at most k of them, in any order."""


class SharedTables(NamedTuple):
    """Items of which some were brought to `tables` in memory, since several queries read them."""

    kernel: PairKernel
    """That did, and alone may read them: another rounds otherwise."""
    items: LocatedItems
    """All of them, in memory or where they are stored."""


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
        state: QueryState,
        items: LocatedItems,
        timer: StageTimer,
        *,
        k: int,
        pool: Executor | None,
        shared: SharedTables | None = None,
    ) -> ItemScores:
        """Score N items for a query: exactly those that may be among the k best so far.

        Args:
            state: of the query, which is of the other role.
            items: to score.
            timer: counts what is copied of items as `gather`, summed over threads.
            k: ranks of the answer.
            pool: runs tiles, one a task; None runs them here.
            shared: the same items, some of them computed for several queries; None where all are
                read as they are stored.
        """
        global_ = items.global_scores(state.query.vector)
        count = len(global_)

        def run(kernel: PairKernel, places: Positions | None = None) -> Floats64:
            if kernel.kind not in state.packed:
                state.packed[kernel.kind] = pack(kernel, state.query)
            some = items if shared is None or shared.kernel is not kernel else shared.items
            if places is not None:
                some = some.select(places)
            return local_scores(kernel, state.packed[kernel.kind], some, timer, pool)

        exact = np.zeros(count, dtype=bool)
        screen = self.screen  # read once: a search on another thread may give it up meanwhile
        if screen is None or count < max(LEAST_ITEMS, 3 * k):
            local = run(self._exact) if count else np.zeros(0)
            exact[:] = True
        elif self.bound is None:
            local = self._measure(run, screen)
            exact[:] = True
        else:
            local = run(screen)
            while True:
                totals = self._weights.total(global_, local)
                open_places = np.flatnonzero(~exact)
                proved = largest(np.concatenate([state.best, totals[exact]]), k)
                epsilon = self.bound.epsilon * self._weights.local
                places = open_places[to_refine(totals[open_places], proved, k, epsilon)]
                if not len(places):
                    break
                refined = run(self._exact, places)
                # Where the screen is worse than thought, more may be among the best.
                self.bound.watch(local[places], refined)
                local[places] = refined
                exact[places] = True
        totals = self._weights.total(global_, local)
        state.best = largest(np.concatenate([state.best, totals[exact]]), k)
        return ItemScores(totals, global_, local)

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
