"""How well items find their partners: ranks, medR, R@K, and the 1k and 10k bags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Ranks = npt.NDArray[np.int64]

RECALLS = (1, 5, 10)
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


def ranks(scores: Floats) -> Ranks:
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


def summary(per_bag: Sequence[Figures]) -> dict[str, tuple[float, float]]:
    """Mean and population deviation over bags, by `medR`, `R@1`, `R@5`, `R@10`."""
    columns = {"medR": [bag.median_rank for bag in per_bag]}
    columns |= {f"R@{k}": [bag.recall[k] for bag in per_bag] for k in RECALLS}
    return {name: (float(np.mean(v)), float(np.std(v))) for name, v in columns.items()}


def prefiltered_ranks(scores: Floats, prefilter: Floats, candidates: int) -> Ranks:
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


def prefilter_recall(scores: Floats, prefilter: Floats, candidates: int) -> float:
    """Percent of rows whose best item by whole score is among the prefilter's best.

    Args:
        scores: whole scores (N, N).
        prefilter: cheap scores (N, N).
        candidates: how many the prefilter keeps.
    """
    best = scores.argmax(axis=1)
    kept = top_mask(prefilter, candidates)
    return float(100 * kept[np.arange(len(scores)), best].mean())


def top_mask(scores: Floats, count: int) -> npt.NDArray[np.bool_]:
    """Which `count` entries of each row are its largest; ties at the edge all count."""
    if count >= scores.shape[1]:
        return np.ones(scores.shape, dtype=np.bool_)
    edge = np.partition(scores, -count, axis=1)[:, -count]
    mask: npt.NDArray[np.bool_] = scores >= edge[:, None]
    return mask
