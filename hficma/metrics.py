"""How well items find their partners: ranks, medR, R@K, the 1k and 10k bags, and how sure it is.

The protocol is Recipe1M's (Salvador et al., CVPR 2017): N photos and their N recipes are drawn into
a bag, each photo looks for its recipe among them and each recipe for its photo, and figures are
means over several bags. Everything here is NumPy on tables of scores (N, N): queries down,
candidates across, partners on the diagonal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .types import AnyFloats, Mask, Positions, Ranks

RECALLS = (1, 5, 10)
"""The K of R@K."""
LEVEL = 0.95
"""Confidence of intervals."""
DIRECTIONS = ("image_to_recipe", "recipe_to_image")

_BLOCK = 1024
"""Rows compared at once: a table of 10k x 10k comparisons would take 100 MB."""

Interval = tuple[float, float]
"""Lower and upper end, in the figure's unit."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is reported of one direction in one bag."""

    median_rank: float
    """medR, from 1."""
    recall: dict[int, float]
    """R@K by K, in percent."""

    @property
    def recall_sum(self) -> float:
        """Return R@1 + R@5 + R@10."""
        return sum(self.recall.values())


def ranks(scores: AnyFloats) -> Ranks:
    """Return the rank of each row's partner, from 1; ties count against it.

    Args:
        scores: (N, N), queries down, candidates across, partners on the diagonal.

    Returns:
        (N,) int64. A partner whose score is no number ranks last.
    """
    partner = scores.diagonal()
    result = np.empty(len(scores), dtype=np.int64)
    for start in range(0, len(scores), _BLOCK):
        rows = slice(start, start + _BLOCK)
        result[rows] = count_not_below(scores[rows], partner[rows])
    return result


def count_not_below(scores: AnyFloats, partner: AnyFloats) -> Ranks:
    """Return how many candidates of each query stand before its partner, or are it.

    Args:
        scores: (Q, C), queries down, candidates across.
        partner: the partner's score (Q,).

    Returns:
        (Q,) int64. Over all candidates it is the rank.
    """
    # "Not below" instead of "at least": comparisons with NaN are false.
    counts: Ranks = (~(scores < partner[:, None])).sum(axis=1)
    return counts


def figures(ranks: Ranks) -> Figures:
    """Return medR and R@1, R@5, R@10 of ranks (N,) that count from 1."""
    return Figures(
        median_rank=float(np.median(ranks)),
        recall={k: float(100 * (ranks <= k).mean()) for k in RECALLS},
    )


def bags(items: int, size: int, *, count: int = 10, seed: int = 1234) -> list[Positions]:
    """Draw the positions of each bag's items, without replacement.

    Where there are no more items than a bag takes, there is one bag, of all of them: several
    would be the same one.

    Args:
        items: how many there are.
        size: items a bag.
        count: bags.
        seed: the same seed draws the same bags.

    Returns:
        for each bag, positions (size,) in rising order.
    """
    if items <= size:
        return [np.arange(items)]
    generator = np.random.default_rng(seed)
    return [np.sort(generator.choice(items, size, replace=False)) for _ in range(count)]


def summary(per_bag: Sequence[Figures]) -> dict[str, tuple[float, float | None]]:
    """Return mean and population deviation over bags, by `medR`, `R@1`, `R@5`, `R@10`.

    One bag has no deviation: it is None, and `intervals` says how sure its figures are.
    """
    columns = {"medR": [bag.median_rank for bag in per_bag]}
    columns |= {f"R@{k}": [bag.recall[k] for bag in per_bag] for k in RECALLS}
    several = len(per_bag) > 1
    return {
        n: (float(np.mean(v)), float(np.std(v)) if several else None) for n, v in columns.items()
    }


def recall_interval(recall: float, queries: int) -> Interval:
    """Return the 95 % interval of a recall over queries, both in percent.

    Wilson's (1927), which stays inside 0 to 100 and has a width where the recall is 100.

    Args:
        recall: R@K in percent.
        queries: how many it is of.
    """
    from scipy.stats import binomtest

    hits = round(recall / 100 * queries)
    interval = binomtest(hits, queries).proportion_ci(LEVEL, method="wilson")
    return 100 * float(interval.low), 100 * float(interval.high)


def median_interval(ranks: Ranks) -> Interval:
    """Return the 95 % interval of the median rank over queries, from the order of the ranks.

    It assumes no distribution (the interval of a quantile by the binomial test). Where they are
    too few for an end to exist (fewer than six), it is the first rank or the last.

    Args:
        ranks: (N,), from 1.
    """
    from scipy.stats import quantile_test

    ends = quantile_test(ranks, p=0.5).confidence_interval(LEVEL)
    low = float(ends.low) if np.isfinite(ends.low) else 1.0
    high = float(ends.high) if np.isfinite(ends.high) else float(max(len(ranks), ranks.max()))
    return low, high


def intervals(ranks: Ranks) -> dict[str, Interval]:
    """Return the 95 % intervals over queries of `medR`, `R@1`, `R@5`, `R@10`, of ranks (N,)."""
    recall = figures(ranks).recall
    return {
        "medR": median_interval(ranks),
        **{f"R@{k}": recall_interval(recall[k], len(ranks)) for k in RECALLS},
    }


def chance(items: int) -> dict[str, float]:
    """Return the figures that ranking at random gives among so many items, by name."""
    return {"medR": (items + 1) / 2, **{f"R@{k}": min(100.0, 100 * k / items) for k in RECALLS}}


def figure_text(value: float, interval: Interval | None) -> str:
    """Write a figure as people read it: `58.5 [51, 66]`."""
    return (
        f"{value:.1f}"
        if interval is None
        else f"{value:.1f} [{interval[0]:.0f}, {interval[1]:.0f}]"
    )


def direction_record(ranks: Ranks) -> dict[str, Any]:
    """Return the figures of one direction as JSON values, with how many queries they are of."""
    result = figures(ranks)
    return {
        "medR": result.median_rank,
        **{f"R@{k}": value for k, value in result.recall.items()},
        "queries": len(ranks),
        "intervals": {name: list(ends) for name, ends in intervals(ranks).items()},
    }


def prefiltered_ranks(scores: AnyFloats, prefilter: AnyFloats, candidates: int) -> Ranks:
    """Return ranks where only the best by a prefilter are re-ranked by the whole score.

    Args:
        scores: whole scores (N, N), as in `ranks`.
        prefilter: cheap scores (N, N) of the same pairs.
        candidates: K, how many of each row are re-ranked; the others stay behind them, in the
            prefilter's order.

    Returns:
        (N,) int64, from 1.
    """
    by_prefilter = ranks(prefilter)
    is_candidate = top_mask(prefilter, candidates)
    # Others cannot rank before a candidate, whatever their whole score.
    among_candidates = ranks(np.where(is_candidate, scores, -np.inf))
    return np.where(by_prefilter <= candidates, among_candidates, by_prefilter)


def prefilter_recall(scores: AnyFloats, prefilter: AnyFloats, candidates: int) -> float:
    """Return the percentage of rows whose best item by whole score is a candidate.

    Args:
        scores: whole scores (N, N).
        prefilter: cheap scores (N, N).
        candidates: K, how many of each row the prefilter passes on.
    """
    best = scores.argmax(axis=1)
    return float(100 * top_mask(prefilter, candidates)[np.arange(len(scores)), best].mean())


def top_mask(scores: AnyFloats, count: int) -> Mask:
    """Mark the `count` largest entries of each row; ties at the edge are all marked.

    Args:
        scores: (N, M).
        count: K.

    Returns:
        (N, M) bool.
    """
    if count >= scores.shape[1]:
        return np.ones(scores.shape, dtype=np.bool_)
    edge = np.partition(scores, -count, axis=1)[:, -count]
    mask: Mask = scores >= edge[:, None]
    return mask
