"""Figures of ranks with bootstrap intervals, alone and paired against another method's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from hficma.metrics import RECALLS, ranks, recall_interval
from hficma.types import AnyFloats, Floats64, Positions, Ranks

RESAMPLES = 2_000
LEVEL = 0.95

Statistic = Callable[[Ranks], Floats64]


def _recall(ranks: Ranks, depth: int) -> Floats64:
    recall: Floats64 = 100 * (ranks <= depth).mean(axis=-1)
    return recall


STATISTICS: dict[str, Statistic] = {
    "medR": partial(np.median, axis=-1),
    **{f"R@{depth}": partial(_recall, depth=depth) for depth in RECALLS},
}
"""The figures of ranks (..., queries) over their last axis, by name."""


def figures_of(scores: AnyFloats) -> dict[str, float]:
    """Return the figures of one bag's scores (N, N): queries down, candidates across."""
    return {name: float(statistic(ranks(scores))) for name, statistic in STATISTICS.items()}


def estimates(ranks: Ranks, baseline: Ranks | None = None, *, seed: int = 0) -> dict[str, Any]:
    """Return each figure with its interval; with a baseline, also the paired difference to it.

    Queries are resampled, the same ones for every training seed and for both methods; the
    figure is the mean over training seeds.

    Args:
        ranks: (seeds, queries).
        baseline: the other method's, (its seeds, the same queries).
        seed: of the resampling.
    """
    result: dict[str, Any] = {}
    for name, statistic in STATISTICS.items():
        record = _interval(statistic, seed, ranks)
        record["seeds"] = statistic(ranks).tolist()
        if record["value"] in (0.0, 100.0) and name != "medR":
            # Resampling queries that all agree never meets the one that would not.
            record["low"], record["high"] = recall_interval(record["value"], ranks.shape[1])
        if baseline is not None:
            record["against_baseline"] = _interval(statistic, seed, ranks, baseline)
        result[name] = record
    return result


def _interval(
    statistic: Statistic, seed: int, ranks: Ranks, baseline: Ranks | None = None
) -> dict[str, Any]:
    """Return a figure, or its difference to the baseline's, and its interval over queries."""

    def figure(queries: Positions, axis: int = -1) -> Floats64:
        # One draw of queries for all seeds and both methods: that is what pairs them.
        mean = statistic(ranks[:, queries]).mean(axis=0)
        if baseline is not None:
            mean = mean - statistic(baseline[:, queries]).mean(axis=0)
        return np.asarray(mean)

    queries = np.arange(ranks.shape[1])
    low, high = bootstrap(
        (queries,), figure, vectorized=True, n_resamples=RESAMPLES, confidence_level=LEVEL,
        method="percentile", random_state=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return {"value": float(figure(queries)), "low": float(low), "high": float(high)}
