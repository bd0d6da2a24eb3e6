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

ε is measured, not derived: a bound of every rounding of 16 bits would be a hundred times what is
seen, and refine nearly all. It is four times the largest difference that was seen: for float16 over
a million real and adversarial pairs (`hficma.benchmarks.kernels.screening`), for bfloat16 in the
first searches of an index, which are scored both ways. And it is watched: whatever is scored again
is compared with what the screen said of it, and once a difference is above a quarter of ε, ε grows
to four times that difference, and the choice is made again.
"""

from __future__ import annotations

import logging

import numpy as np

from hficma.types import Floats64, Mask

SCREEN_EPSILON = 1e-4
"""ε of scores in float16, in units of S_local."""
MARGIN = 4.0
"""ε is so many times the largest difference that was seen."""

_log = logging.getLogger("hficma")


class ScreenBound:
    """ε of one index and model: at least what was measured beforehand, and watched from then on."""

    def __init__(self, epsilon: float = SCREEN_EPSILON) -> None:
        self.epsilon = epsilon
        self.largest = 0.0
        """The largest difference that was seen."""

    def watch(self, screened: Floats64, exact: Floats64) -> bool:
        """Compare screened scores with exact ones; return whether ε had to grow.

        Args:
            screened: S_local of N pairs in 16 bits; what is not finite has no difference, and is
                always scored again.
            exact: of the same pairs in float32.
        """
        differences = np.abs(screened - exact)
        differences = differences[np.isfinite(differences)]
        self.largest = max(self.largest, float(differences.max(initial=0.0)))
        if self.largest * MARGIN <= self.epsilon:
            return False
        self.epsilon = self.largest * MARGIN
        _log.info(
            "scores in 16 bits differ by up to %.1e for this model; all within %.1e of the last "
            "rank are scored again", self.largest, 2 * self.epsilon,
        )  # fmt: skip
        return True


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
