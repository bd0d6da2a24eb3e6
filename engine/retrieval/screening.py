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
"""

from __future__ import annotations

import logging
import math
import threading
from typing import NamedTuple

import numpy as np

from hficma.types import Floats64, Mask

from ..results import ErrorBound, NarrowPrecision
from .certificate import EPSILON, MARGIN

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
