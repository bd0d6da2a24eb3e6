r"""Exact answers from 16-bit scores: which items of a query are scored again in float32.

Kernels, in float16 on a GPU and in bfloat16 on processors, score all candidates, and only what may
be among the k best is scored again:

    screened S  ^  x
                |     x  x
                |  - - - - - -x- - - - -   the k-th best           k = 4
                |                x         within 2 ε of it: may be better in truth, scored again
                |  - - - - - - - - - - -   k-th - 2 ε
                |                   x  x   can not
                +-------------------------> items

*Claim.* Let |S - Ŝ| <= ε for every screened score Ŝ of an item whose exact score is S. Items whose
Ŝ is more than 2 ε below the k-th best Ŝ are not among the k best by S.

*Proof.* k items have Ŝ >= Ŝ_(k), so S >= Ŝ_(k) - ε. An item with Ŝ < Ŝ_(k) - 2 ε has
S <= Ŝ + ε < Ŝ_(k) - ε, and stands behind all of those.

So after every candidate within 2 ε was scored again, the k best, their order, their scores and how
many of them are proved are those of float32; the others keep their Ŝ, which stay behind them.

ε is measured, not derived: a bound of every rounding of 16 bits would be thousands of times what is
seen. It is four times the largest difference of over a million pairs, in units that make models
comparable: the unit roundoff u of the precision times the scale that a model's weights give
(`hficma.engine.bundle.rounding`). `hficma bench screening` measures it over real pairs, and over
pairs made to be hard, of models that were trained, of new ones, and of weights made to be hard.

    ε = 4 x LARGEST x u x scale of the model

An engine goes on watching: the first pairs that it meets are scored both ways, and whatever is
scored again later is compared with what the screen said of it. Where four times what it sees is
more, ε grows, and the choice is made again; it never shrinks below the ε of the million.

Candidates come in batches, and queries side by side: when ε grows, items of earlier batches were
chosen by a narrower one. So they are kept, and before an answer goes out the choice is made again
by the ε that stands then (`QueryState.rescored`). It only adds: a wider ε leaves fewer behind.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from hficma.scores import ScoreWeights
from hficma.types import Floats64, Mask, Positions

from ..results import ErrorBound, NarrowPrecision
from .certificate import EPSILON, MARGIN, ItemScores, RescoredItems

FIRST_PAIRS = 1 << 14
"""Pairs that are scored in both precisions before any is only screened."""

_log = logging.getLogger("hficma")


class Measurement(NamedTuple):
    """What `hficma bench screening` measured of a screen in one precision."""

    roundoff: float
    """u: a rounded number is wrong by at most u of itself."""
    largest: float
    """The largest |S - Ŝ| of any pair, divided by u and by the scale of the pair's model."""
    pairs: int
    """How many were compared."""


MEASUREMENTS: dict[NarrowPrecision, Measurement] = {
    "fp16": Measurement(2.0**-11, 2.2, 1_533_248),
    "bf16": Measurement(2.0**-8, 1.4, 1_533_248),
}
"""Of the GPU's screen and of the processors': what benchmarks/results has of `screening`."""


class ScreenBound:
    """ε of one model and index: that of the million pairs, widened by what is seen here.

    Args:
        precision: of the screen.
        scale: of the model, as `bundle_rounding_scale` gives it.
        first_pairs: to compare here before any is only screened; None compares `FIRST_PAIRS`.

    Attributes:
        epsilon: in units of S_local; infinite, so that everything is scored again, until the first
            pairs were compared.
        pairs: how many were compared here.
        largest: the largest difference among them.
    """

    def __init__(
        self, precision: NarrowPrecision, scale: float, *, first_pairs: int | None = None
    ) -> None:
        self.precision: NarrowPrecision = precision
        self.pairs = 0
        self.largest = 0.0
        measured = MEASUREMENTS[precision]
        self._expected = measured.largest * measured.roundoff * scale
        self._first = FIRST_PAIRS if first_pairs is None else first_pairs
        self._lock = threading.Lock()
        self.epsilon = math.inf if self._first else self._measured

    def watch(self, screened: Floats64, exact: Floats64) -> None:
        """Compare screened scores with exact ones, from any thread.

        Args:
            screened: S_local of N pairs in 16 bits; what is not finite has no difference, and is
                always scored again.
            exact: of the same pairs in float32.
        """
        differences = np.abs(screened - exact)
        differences = differences[np.isfinite(differences)]
        with self._lock:
            self.pairs += differences.size
            self.largest = max(self.largest, float(differences.max(initial=0.0)))
            if self.pairs < self._first:
                return
            before, self.epsilon = self.epsilon, max(self.epsilon_here, self._measured)
        if before != self.epsilon:
            _log.info(
                "scores in %s differ by up to %.1e over %s pairs here; what is within %.1e of the "
                "last rank is scored again in float32",
                self.precision, self.largest, f"{self.pairs:,}", 2 * self.epsilon,
            )  # fmt: skip

    @property
    def epsilon_here(self) -> float:
        """Return what ε would be by the pairs of this engine alone."""
        return MARGIN * self.largest

    @property
    def fact(self) -> ErrorBound | None:
        """Return ε and how it is known, for answers; None while everything is scored again."""
        if math.isinf(self.epsilon):
            return None
        pairs = MEASUREMENTS[self.precision].pairs + self.pairs
        return ErrorBound(precision=self.precision, epsilon=self.epsilon, pairs=pairs)

    @property
    def _measured(self) -> float:
        """Return ε of the million pairs, and at least that of float32's own rounding."""
        return max(MARGIN * self._expected, EPSILON)


def largest(values: Floats64, count: int) -> Floats64:
    """Return the largest of some values, in any order; all where there are no more.

    Args:
        values: (N,).
        count: how many.
    """
    return values if len(values) <= count else np.partition(values, -count)[-count:]


def to_refine(totals: Floats64, proved: Floats64, k: int, epsilon: float) -> Mask:
    """Return which items may be among the k best.

    Args:
        totals: (N,) Ŝ of items; what is not finite may be anything.
        proved: S of items that were scored exactly before, at most k, in any order.
        k: ranks of the answer.
        epsilon: ε, in units of S.
    """
    known = np.isfinite(totals)
    least = np.concatenate([proved, totals[known] - epsilon])
    if len(least) <= k:
        return np.ones(len(totals), dtype=bool)
    kth = np.partition(least, -k)[-k]
    refined: Mask = ~known | (totals + epsilon >= kth)
    return refined


class BestItems:
    """S of the best items of one query that were scored exactly.

    Args:
        weights: w_g and w_l.
        k: ranks of the answer.
    """

    def __init__(self, weights: ScoreWeights, k: int) -> None:
        self.weights = weights
        self.k = k
        self.totals = np.empty(0)
        """At most k of them, in any order."""

    def take(self, totals: Floats64) -> None:
        """Take in S of items that were scored exactly, none of them twice."""
        self.totals = largest(np.concatenate([self.totals, totals]), self.k)


class QueryState:
    """What is known of one query's items while they are scored, batch after batch.

    Its batches know the best items alone: were they to know the state too, all scores of a query
    would stay in memory until Python next looks for cycles.

    Args:
        weights: w_g and w_l.
        k: ranks of the answer.
    """

    def __init__(self, weights: ScoreWeights, k: int) -> None:
        self.best = BestItems(weights, k)
        self._count = 0
        self._batches: list[ScreenedBatch] = []

    def add_exact(self, scores: ItemScores) -> ItemScores:
        """Take in a batch that was scored in float32, and return its scores.

        Args:
            scores: of its items.
        """
        self._count += len(scores.total)
        self.best.take(scores.total)
        return scores

    def add_screened(self, items: Positions, global_: Floats64, local: Floats64) -> ScreenedBatch:
        """Take in a batch that was scored in 16 bits, of which `refine` makes some scores exact.

        Args:
            items: (N,) positions in the index.
            global_: (N,) S_global.
            local: (N,) S_local as screened; becomes exact, place by place.
        """
        scores = ItemScores(self.best.weights.total(global_, local), global_, local)
        batch = ScreenedBatch(
            self.best, self._count, items, scores, np.ones(len(items), dtype=bool)
        )
        self._count += len(items)
        self._batches.append(batch)
        return batch

    def rescored(
        self, bound: ScreenBound, score: ExactScores, *, step: int = 1
    ) -> RescoredItems | None:
        """Choose again in batches that were chosen by a narrower ε than stands now.

        Args:
            bound: ε.
            score: as of `refine`, like `step`.
            step: how many are scored at once.

        Returns:
            what was scored again in float32, by the order in which the query's items were scored;
            None where nothing was.
        """
        narrower = [
            batch for batch in self._batches
            if batch.epsilon < bound.epsilon and batch.is_open.any()
        ]  # fmt: skip
        before = [batch.is_open.copy() for batch in narrower]
        refine(narrower, bound, score, step=step)
        parts = [
            (batch, np.flatnonzero(was_open & ~batch.is_open))
            for batch, was_open in zip(narrower, before, strict=True)
        ]
        if not any(len(places) for _, places in parts):
            return None
        scores = [batch.scores.select(places) for batch, places in parts]
        return RescoredItems(
            np.concatenate([batch.first + places for batch, places in parts]),
            np.concatenate([batch.items[places] for batch, places in parts]),
            ItemScores(*(np.concatenate(arrays) for arrays in zip(*scores, strict=True))),
        )


@dataclass(eq=False)
class ScreenedBatch:
    """A batch of one query's items, of which some were only screened."""

    best: BestItems
    """Of its query."""
    first: int
    """How many items of the query were scored before it."""
    items: Positions
    """(N,) positions in the index."""
    scores: ItemScores
    """(N,) screened, or exact where the item is not open."""
    is_open: Mask
    """(N,) which were only screened."""
    epsilon: float = 0.0
    """ε of the last choice, in units of S_local."""

    def choose(self, epsilon: float, step: int) -> Positions:
        """Return the places of open items that are scored again, since they may be among the best.

        Args:
            epsilon: in units of S_local.
            step: a multiple of it is returned, where so many are open: others fill the last up.
        """
        self.epsilon = epsilon
        weight = self.best.weights.local
        # A model whose S has no local part is not screened: 0 of an infinite ε is none.
        epsilon = epsilon * weight if weight else 0.0
        places = np.flatnonzero(self.is_open)
        needed = to_refine(self.scores.total[places], self.best.totals, self.best.k, epsilon)
        rest = places[~needed]
        fill = min(-int(needed.sum()) % step, len(rest))
        # From all over the batch: the screen may be wrong anywhere.
        extra = rest[np.linspace(0, len(rest) - 1, fill).astype(np.int64)]
        return np.concatenate([places[needed], extra])

    def settle(self, places: Positions, local: Floats64) -> None:
        """Replace screened scores by exact ones.

        Args:
            places: (n,) of open items.
            local: (n,) their S_local in float32.
        """
        total = self.best.weights.total(self.scores.global_[places], local)
        self.scores.local[places], self.scores.total[places] = local, total
        self.is_open[places] = False
        self.best.take(total)


Choice: TypeAlias = tuple[ScreenedBatch, Positions]
"""A batch, and the places (n,) of its items that are scored again."""
ExactScores: TypeAlias = Callable[[Sequence[Choice]], Sequence[Floats64]]
"""Scores what was chosen in float32: returns S_local (n,) of each."""


def refine(
    batches: Sequence[ScreenedBatch], bound: ScreenBound, score: ExactScores, *, step: int = 1
) -> None:
    """Score again in float32, in place, whatever may be among the k best of its query.

    Args:
        batches: of any queries, chosen from side by side.
        bound: ε, which grows where the screen is worse than thought.
        score: scores what is chosen, of all batches at once.
        step: how many of a batch are scored at once.
    """
    while True:
        choices = [(batch, batch.choose(bound.epsilon, step)) for batch in batches]
        choices = [(batch, places) for batch, places in choices if len(places)]
        if not choices:
            return
        for (batch, places), exact in zip(choices, score(choices), strict=True):
            bound.watch(batch.scores.local[places], exact)
            batch.settle(places, exact)
        # Around again: by the ε of now more may be among the best.
