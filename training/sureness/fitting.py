"""Fits what scores say of how sure an answer is; the formula is `hficma.sureness`'s.

Everything is fitted at all sizes of pool at once, in this order:

    a            by the likelihood of the right item among its pool: conditional logit
    σ            the standard deviation of scores of pairs that do not belong together
    b, N₀        by the likelihood of presence, half of the pools with the right item
    stretches    by logistic regression of "the first rank is right", and of "the first ten hold it"
    sure         the lowest threshold that keeps what the word promises

A few numbers on thousands of answers: there is nothing to overfit, and still the benchmark `hficma
bench sureness` fits them on other folds than it judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hficma.sureness import TEN, ScoreCalibration, Stretch
from hficma.types import AnyFloats, Floats64

from .pools import POOLS, SMALL, Chances, CrossFitScores, Pools

SURE_RIGHT = 0.8
"""Of answers called sure, so many at least have the right item first, where it is in the pool."""
SURE_ABSENT = 0.05
"""Where the right item is not in the pool, so many answers at most are called sure, at any size."""
MOST_CROWD = 1e6
"""N₀ at most, where the evidence of presence counts whole at every size that was tried."""
LEAST_ANSWERS = 20
"""Answers that a threshold must be judged by: a share of fewer says too little."""

_THRESHOLDS = np.arange(5, 100) / 100
_SLOPES = (1e-3, 1e4)
"""Between which a is looked for: it is 1 over a unit of S, which models choose freely."""


def fit_calibration(
    crossfit: CrossFitScores, sizes: Sequence[int] = (*SMALL, *POOLS)
) -> ScoreCalibration:
    """Fit the calibration of queries of one role.

    Args:
        crossfit: scores of Q queries, some dozens at least.
        sizes: of the pools; those larger than the items are taken as of all items.
    """
    largest = crossfit.scores.shape[1] - 1
    pools = [
        Pools.draw(crossfit, size, seed)
        for seed, size in enumerate(sorted({min(size, largest) for size in sizes}))
    ]
    wrong = np.concatenate([one.absent.ravel() for one in pools])
    slope = _slope(pools)
    offset, crowd = _presence(slope, pools)
    calibration = ScoreCalibration(
        slope=slope, offset=offset, spread=float(wrong.std()), crowd=crowd
    )
    # In a pool of ten the first ten are certain, and say nothing.
    large = [one for one in pools if one.size > TEN]
    present = [Chances.of(one.present, calibration) for one in large]
    calibration = replace(
        calibration,
        first=_stretch(large, [c.first for c in present], 1),
        first_ten=_stretch(large, [c.first_ten for c in present], TEN),
    )
    return replace(calibration, sure=_sure(calibration, pools))


def _slope(pools: Sequence[Pools]) -> float:
    """Return the a that makes the right items likeliest: softmax of a S, the same at all sizes."""
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    def loss(log_slope: float) -> float:
        slope = np.exp(log_slope)
        return sum(
            float((logsumexp(slope * one.present, axis=1) - slope * one.present[:, 0]).mean())
            for one in pools
        )

    # In its logarithm: S may be a cosine, or a distance in thousands.
    return float(np.exp(minimize_scalar(loss, bounds=np.log(_SLOPES), method="bounded").x))


def _presence(slope: float, pools: Sequence[Pools]) -> tuple[float, float]:
    """Return the b and N₀ by which pools with and without the right item are told apart best."""
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    # log Λ / N with b = 0, and N, one a pool.
    evidence = [
        (logsumexp(slope * scores, axis=1) - np.log(one.size), one.size)
        for one in pools
        for scores in (one.present, one.absent)
    ]

    def loss(parameters: Floats64) -> float:
        offset, crowd = parameters[0], np.exp(parameters[1])
        total = 0.0
        for place, (bare, size) in enumerate(evidence):
            odds = (bare + offset) * crowd / (crowd + size)
            total += float(np.logaddexp(0.0, odds if place % 2 else -odds).mean())
        return total

    start = np.array([-np.mean([bare.mean() for bare, _ in evidence]), np.log(100.0)])
    offset, log_crowd = minimize(loss, start, method="Nelder-Mead").x
    # A million is as good as none: no pool is larger whose evidence matters.
    return float(offset), float(np.exp(np.clip(log_crowd, 0.0, np.log(MOST_CROWD))))


def _stretch(pools: Sequence[Pools], chances: Sequence[Floats64], last: int) -> Stretch:
    """Return the stretch of chances to how often the right item has at most a rank.

    Args:
        pools: with the right item.
        chances: (Q,) of each pool size.
        last: the rank.
    """
    from scipy.optimize import minimize

    odds = [_log_odds(chance) for chance in chances]
    right = [one.ranks <= last for one in pools]

    def loss(parameters: Floats64) -> float:
        slope, shift, crowding = parameters
        total = 0.0
        for one, bare, truth in zip(pools, odds, right, strict=True):
            stretched = slope * bare + shift - crowding * np.log(one.size)
            total += float((np.logaddexp(0.0, stretched) - truth * stretched).mean())
        return total

    # No slope of 0, which would have all answers alike, and no pool that helps by its size.
    bounds = ((0.05, 20.0), (-20.0, 20.0), (0.0, 5.0))
    slope, shift, crowding = minimize(loss, np.array([1.0, 0.0, 0.0]), bounds=bounds).x
    return Stretch(slope=float(slope), shift=float(shift), crowding=float(crowding))


def _sure(calibration: ScoreCalibration, pools: Sequence[Pools]) -> float:
    """Return the lowest threshold of "sure" that keeps its promise; 1 where none does."""
    # Of few items the first is right too easily to prove anything.
    large = [one for one in pools if one.size > TEN]
    present = np.concatenate([Chances.of(one.present, calibration).first_in_all for one in large])
    right = np.concatenate([one.ranks == 1 for one in large])
    absent = [Chances.of(one.absent, calibration).first_in_all for one in pools]
    for threshold in _THRESHOLDS:
        called = present >= threshold
        if called.sum() < LEAST_ANSWERS:
            break
        without = max(float((chance >= threshold).mean()) for chance in absent)
        if right[called].mean() >= SURE_RIGHT and without <= SURE_ABSENT:
            return float(threshold)
    return 1.0


def _log_odds(chance: AnyFloats) -> Floats64:
    """Return the log odds of chances, finite also of 0 and 1."""
    clipped = np.clip(chance.astype(np.float64), 1e-12, 1.0 - 1e-12)
    return np.log(clipped) - np.log1p(-clipped)
