"""Ranking by S with a proof of how much of it holds.

S = w_g g + w_l l with 0 <= l <= 1. Items are visited in falling g, so whatever has not been
visited scores at most w_g (g_next + δ) + w_l. A rank whose score is above that (plus ε for
rounding) is what scoring every item would give, in the same bundle, runtime and precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hficma.errors import ArtifactError
from hficma.scores import ScoreWeights

from ..index.candidates import CandidateBatch

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]

EPSILON = 2e-6
"""ε: how far S of one pair may move with what is scored beside it, in units of w_l.

S_local of a pair does not depend on its tile's other items but through the last bits of a
runtime's kernels; float32 leaves 6e-8 a rounding, and the softmaxes and means average them.
"""


class ItemScores(NamedTuple):
    """Scores of N items for one query, each (N,) float64."""

    total: Floats
    """S = w_g g + w_l l."""
    global_: Floats
    """g: S_global."""
    local: Floats
    """l: S_local in [0, 1]; zeros for a model without a local part."""


class Ranking(NamedTuple):
    """The best items found, best first."""

    items: Positions
    """(min(k, N),) positions."""
    scores: ItemScores
    """Of `items`."""
    certified: int
    """The first ranks that are proved: what scoring every item would give."""
    scored: int
    """Items scored on the way."""


def rank_with_certificate(
    visits: Iterable[CandidateBatch],
    score: Callable[[Positions], ItemScores],
    *,
    k: int,
    exact: bool,
    weights: ScoreWeights,
) -> Ranking:
    """Score visits until the first k ranks are proved; without `exact`, only the first visit.

    Args:
        visits: items in visiting order; the better the order, the sooner the proof.
        score: positions (N,) to their scores; called once a visit.
        k: ranks wanted.
        exact: go on until k ranks are proved or nothing is left.
        weights: w_g and w_l.

    Returns:
        the ranking by falling S; equal scores stand in the order of their positions.

    Raises:
        ArtifactError: a score is not finite, or an l not in [0, 1]: no proof holds then.
    """
    items = np.empty(0, dtype=np.int64)
    scores = ItemScores(*(np.empty(0) for _ in ItemScores._fields))
    scored = certified = 0
    for visit in visits:
        fresh = score(visit.items)
        _refuse_impossible(fresh)
        scored += len(visit.items)
        items = np.concatenate([items, visit.items])
        scores = ItemScores(*(np.concatenate(pair) for pair in zip(scores, fresh, strict=True)))
        best = np.lexsort((items, -scores.total))[:k]
        items, scores = items[best], ItemScores(*(part[best] for part in scores))
        reach = score_upper_bound(visit.upper_bound, weights)
        certified = int(np.argmax(np.append(scores.total < reach, True)))
        if certified == k or not exact:
            break
    return Ranking(items, scores, certified, scored)


def _refuse_impossible(scores: ItemScores) -> None:
    """Raise an ArtifactError for scores that damaged vectors or weights give.

    A NaN sorts anywhere, and compares as no bound says.
    """
    local = scores.local
    if not np.isfinite(scores.total).all() or ((local < 0.0) | (local > 1.0)).any():
        raise ArtifactError(
            "a score is not finite, or S_local not within 0 and 1: the model's weights or the "
            "index's vectors are damaged; see `hficma index verify`, or make both again"
        )


def score_upper_bound(upper_bound: float, weights: ScoreWeights) -> float:
    """The score that no item with g <= `upper_bound` can pass, rounding included."""
    if math.isinf(upper_bound):
        return upper_bound
    reach = weights.total(upper_bound, 1.0)
    # The second term covers the float64 roundings of S itself.
    return reach + EPSILON * weights.local + 1e-12 * (abs(reach) + 1.0)
