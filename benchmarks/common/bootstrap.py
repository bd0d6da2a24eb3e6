"""Bootstrap intervals of ranks, alone and paired against another method's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hficma.metrics import RECALLS, recall_interval

RESAMPLES = 2_000
LEVEL = 0.95

Ranks = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def figure_functions() -> dict[str, Callable[[Ranks], Floats]]:
    """By name: figures of ranks (..., N) over their last axis."""
    functions: dict[str, Callable[[Ranks], Floats]] = {"medR": lambda r: np.median(r, axis=-1)}
    for depth in RECALLS:
        functions[f"R@{depth}"] = lambda r, k=depth: 100 * (r <= k).mean(axis=-1)  # type: ignore[misc]
    return functions


def estimates(found: Ranks, baseline: Ranks | None = None, *, seed: int = 0) -> dict[str, Any]:
    """Each figure with its interval; with a baseline, also the paired difference to it.

    Queries are resampled, the same ones for every training seed and for both methods; the
    figure is the mean over training seeds.

    Args:
        found: ranks (seeds, queries).
        baseline: the other method's, (its seeds, the same queries).
        seed: of the resampling.
    """
    queries = found.shape[1]
    draws = np.random.default_rng(seed).integers(queries, size=(RESAMPLES, queries))
    result: dict[str, Any] = {}
    for name, function in figure_functions().items():
        value = float(function(found).mean())
        spread = _resampled(function, found, draws)
        record: dict[str, Any] = {
            **_interval(value, spread),
            "seeds": [float(one) for one in function(found)],
        }
        if value in (0.0, 100.0) and name != "medR":
            # Resampling queries that all agree never finds the one that would not.
            record["low"], record["high"] = recall_interval(value, queries)
        if baseline is not None:
            other = _resampled(function, baseline, draws)
            difference = value - float(function(baseline).mean())
            record["against_baseline"] = _interval(difference, spread - other)
        result[name] = record
    return result


def _resampled(function: Callable[[Ranks], Floats], found: Ranks, draws: Ranks) -> Floats:
    per_seed = np.stack([function(one[draws]) for one in found])
    mean: Floats = per_seed.mean(axis=0)
    return mean


def _interval(value: float, spread: Floats) -> dict[str, float]:
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(spread, [tail, 100 - tail])
    return {"value": value, "low": float(low), "high": float(high)}
