"""How well items find their partners: ranks, medR, R@K, the 1k and 10k bags, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .types import AnyFloats, Mask, Ranks

RECALLS = (1, 5, 10)
LEVEL = 0.95
"""Of intervals."""
DIRECTIONS = ("image_to_recipe", "recipe_to_image")

_BLOCK = 1024


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is reported of one direction in one bag."""

    median_rank: float
    """medR, from 1."""
    recall: dict[int, float]
    """R@K by K, in percent."""

    @property
    def recall_sum(self) -> float:
        """R@1 + R@5 + R@10."""
        return sum(self.recall.values())


def ranks(scores: AnyFloats) -> Ranks:
    """Rank of each row's own column, from 1; ties count against us.

    Args:
        scores: (N, N), queries down, candidates across, partners on the diagonal.

    Returns:
        (N,) int64. A score that is no number ranks last.
    """
    own = scores.diagonal()
    found = np.empty(len(scores), dtype=np.int64)
    for start in range(0, len(scores), _BLOCK):
        rows = slice(start, start + _BLOCK)
        # "Not below" instead of "at least": comparisons with NaN are false.
        found[rows] = (~(scores[rows] < own[rows, None])).sum(axis=1)
    return found


def figures(found: Ranks) -> Figures:
    """medR and R@1, R@5, R@10 of ranks that count from 1."""
    return Figures(
        median_rank=float(np.median(found)),
        recall={k: float(100 * (found <= k).mean()) for k in RECALLS},
    )


def bags(items: int, size: int, *, count: int = 10, seed: int = 1234) -> list[Ranks]:
    """Positions of each bag's items, drawn without replacement.

    Where there are no more items than a bag takes, there is one bag, of all of them: several
    would be the same one.

    Args:
        items: how many there are.
        size: items a bag.
        count: bags.
        seed: the same seed draws the same bags.
    """
    if items <= size:
        return [np.arange(items)]
    generator = np.random.default_rng(seed)
    return [np.sort(generator.choice(items, size, replace=False)) for _ in range(count)]


def summary(per_bag: Sequence[Figures]) -> dict[str, tuple[float, float | None]]:
    """Mean and population deviation over bags, by `medR`, `R@1`, `R@5`, `R@10`.

    One bag has no deviation: it is None, and `intervals` says how sure its figures are.
    """
    columns = {"medR": [bag.median_rank for bag in per_bag]}
    columns |= {f"R@{k}": [bag.recall[k] for bag in per_bag] for k in RECALLS}
    several = len(per_bag) > 1
    return {
        n: (float(np.mean(v)), float(np.std(v)) if several else None) for n, v in columns.items()
    }


Interval = tuple[float, float]
"""Lower and upper end, in the figure's unit."""


def recall_interval(recall: float, queries: int) -> Interval:
    """The 95 % interval of a recall over queries, both in percent (Wilson's).

    Args:
        recall: R@K in percent.
        queries: how many it is of.
    """
    from scipy.stats import binomtest

    found = binomtest(round(recall / 100 * queries), queries).proportion_ci(LEVEL, method="wilson")
    return 100 * float(found.low), 100 * float(found.high)


def median_interval(found: Ranks) -> Interval:
    """The 95 % interval of the median rank over queries, from the ranks' own order.

    Where they are too few for an end to exist (fewer than six), it is the first rank or the last.
    """
    from scipy.stats import quantile_test

    ends = quantile_test(found, p=0.5).confidence_interval(LEVEL)
    low = float(ends.low) if np.isfinite(ends.low) else 1.0
    high = float(ends.high) if np.isfinite(ends.high) else float(max(len(found), found.max()))
    return low, high


def intervals(found: Ranks) -> dict[str, Interval]:
    """95 % intervals over queries of `medR`, `R@1`, `R@5`, `R@10`."""
    recall = figures(found).recall
    return {
        "medR": median_interval(found),
        **{f"R@{k}": recall_interval(recall[k], len(found)) for k in RECALLS},
    }


def chance(items: int) -> dict[str, float]:
    """What ranking at random gives among so many items."""
    return {"medR": (items + 1) / 2, **{f"R@{k}": min(100.0, 100 * k / items) for k in RECALLS}}


def figure_text(value: float, interval: Interval | None) -> str:
    """A figure as people read it: `58.5 [51, 66]`."""
    return (
        f"{value:.1f}"
        if interval is None
        else f"{value:.1f} [{interval[0]:.0f}, {interval[1]:.0f}]"
    )


def direction_record(found: Ranks) -> dict[str, Any]:
    """Figures of one direction as JSON values, with how many queries they are of."""
    own = figures(found)
    return {
        "medR": own.median_rank,
        **{f"R@{k}": value for k, value in own.recall.items()},
        "queries": len(found),
        "intervals": {name: list(ends) for name, ends in intervals(found).items()},
    }


def prefiltered_ranks(scores: AnyFloats, prefilter: AnyFloats, candidates: int) -> Ranks:
    """Ranks where only the best by a prefilter are re-ranked by the whole score.

    Args:
        scores: whole scores (N, N), as in `ranks`.
        prefilter: cheap scores (N, N) of the same pairs.
        candidates: how many of each row are re-ranked; the others keep the prefilter's order
            behind them.
    """
    by_prefilter = ranks(prefilter)
    inside = by_prefilter <= candidates
    kept = top_mask(prefilter, candidates)
    hidden = np.where(kept, scores, -np.inf)
    return np.where(inside, ranks(hidden), by_prefilter)


def prefilter_recall(scores: AnyFloats, prefilter: AnyFloats, candidates: int) -> float:
    """Percent of rows whose best item by whole score is among the prefilter's best.

    Args:
        scores: whole scores (N, N).
        prefilter: cheap scores (N, N).
        candidates: how many the prefilter keeps.
    """
    best = scores.argmax(axis=1)
    kept = top_mask(prefilter, candidates)
    return float(100 * kept[np.arange(len(scores)), best].mean())


def top_mask(scores: AnyFloats, count: int) -> Mask:
    """Which `count` entries of each row are its largest; ties at the edge all count."""
    if count >= scores.shape[1]:
        return np.ones(scores.shape, dtype=np.bool_)
    edge = np.partition(scores, -count, axis=1)[:, -count]
    mask: Mask = scores >= edge[:, None]
    return mask
