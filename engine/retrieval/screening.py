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
seen. And it is measured for each model, since it is the model that makes roundings large or small:
`hficma bench screening` prints 1e-4 for a trained one, and a hundred times that for pairs and
weights made to be hard. So the first pairs that an engine meets are scored both ways, and ε is four
times the largest difference. It goes on watching: whatever is scored again later is compared with
what the screen said of it, and a larger difference makes ε grow, and the choice be made again.
"""

from __future__ import annotations

import logging
import math

import numpy as np

from hficma.types import Floats64, Mask

from .certificate import EPSILON

MEASURED = 1 << 14
"""Pairs that are scored in both precisions before any is only screened."""
MARGIN = 4.0
"""ε is so many times the largest difference that was seen."""
LEAST_EPSILON = EPSILON
"""ε at least: that of float32 scores."""

_log = logging.getLogger("hficma")


class ScreenBound:
    """ε of one model and index, learnt from the pairs that are scored in both precisions.

    Args:
        least: ε at least.
        pairs: to compare before any is only screened; None compares `MEASURED`.

    Attributes:
        epsilon: in units of S_local; infinite, so that everything is scored again, until enough
            pairs were compared.
        pairs: how many were compared here.
        largest: the largest difference among them.
    """

    def __init__(self, *, least: float = LEAST_EPSILON, pairs: int | None = None) -> None:
        self.epsilon = math.inf
        self.pairs = 0
        self.largest = 0.0
        self._least = least
        self._needed = MEASURED if pairs is None else pairs

    def watch(self, screened: Floats64, exact: Floats64) -> None:
        """Compare screened scores with exact ones.

        Args:
            screened: S_local of N pairs in 16 bits; what is not finite has no difference, and is
                always scored again.
            exact: of the same pairs in float32.
        """
        differences = np.abs(screened - exact)
        differences = differences[np.isfinite(differences)]
        self.pairs += differences.size
        self.largest = max(self.largest, float(differences.max(initial=0.0)))
        if self.pairs < self._needed:
            return
        before = self.epsilon
        self.epsilon = max(MARGIN * self.largest, self._least)
        if before != self.epsilon:
            _log.debug(
                "scores in 16 bits differ by up to %.1e over %s pairs of this model; what is "
                "within %.1e of the last rank is scored again in float32",
                self.largest, f"{self.pairs:,}", 2 * self.epsilon,
            )  # fmt: skip


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
