"""A query's candidates: of shards, merged, in batches; how far a float32 product may be off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hficma.types import Floats, Offsets, Positions


class ShardCandidates(NamedTuple):
    """The best items of one shard for one query, or of several shards where they are merged.

    Which of several items with the last score are among them is left open: FAISS, partial sorts and
    a GPU's differ in it. No answer depends on it, since the bound of what was left out is no lower
    than that score.
    """

    positions: Positions
    """(K,) positions in the shard, or in the index, by falling score."""
    scores: Floats
    """(K,) g, within the prefilter's error."""


class CandidateBatch(NamedTuple):
    """Some items of an index to score, and a bound on all that follow them."""

    items: Positions
    """(K,) positions; no item is in two batches of one query."""
    upper_bound: float
    """No item of a later batch has a g above this; -inf where none follows, inf if unknown."""


def best_candidates(lists: Sequence[ShardCandidates], count: int | None) -> ShardCandidates:
    """Merge one query's candidates, whose positions are in one index.

    Args:
        lists: of shards, or of several that were merged before.
        count: K, the best to return; None returns all.
    """
    positions = np.concatenate([np.empty(0, np.int64), *(one.positions for one in lists)])
    scores = np.concatenate([np.empty(0, np.float32), *(one.scores for one in lists)])
    # Ties by position: the same order, whatever shards the items lie in.
    order = np.lexsort((positions, -scores))[:count]
    return ShardCandidates(positions[order], scores[order])


def merge_candidates(
    by_shard: Sequence[ShardCandidates],
    shard_offsets: Offsets,
    count: int,
    total: int,
    error: float,
) -> CandidateBatch:
    """Merge one query's candidates: the best `count` of all shards, and a bound on all others.

    Args:
        by_shard: the best `count` + 1 of each shard: the first that is left over has the largest
            score of all that are not returned.
        shard_offsets: (shards + 1,) the position of each shard's first item, and N.
        count: K, candidates to return.
        total: items that may answer, in all shards.
        error: δ, how far scores may be from g; inf where items may have been skipped.
    """
    best = best_candidates(
        [
            candidates._replace(positions=candidates.positions + offset)
            for candidates, offset in zip(by_shard, shard_offsets[:-1], strict=True)
        ],
        count + 1,
    )
    items = best.positions[:count]
    if len(items) == total:
        return CandidateBatch(items, -math.inf)
    # The item at place `count` bounds every item that is not returned. Those behind it here score
    # no more. An item that its shard left out scores no more than the last that the shard gave;
    # that shard gave `count` + 1, so its last stands at this place or behind it. Scores are within
    # δ of g. Where nothing stands here although not all were returned, nothing is known.
    upper_bound = float(best.scores[count]) + error if len(best.scores) > count else math.inf
    return CandidateBatch(items, upper_bound)


def dot_error(width: int, left_norm: float, right_norm: float) -> float:
    """Return how far a float32 inner product may be from the exact one, in any summation order.

    |fl(x·y) - x·y| <= γ_n ‖x‖ ‖y‖ with γ_n = n u / (1 - n u), u = 2^-24 (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., eq. 3.5 with Cauchy-Schwarz).

    Args:
        width: n, entries of the vectors.
        left_norm: an upper bound of ‖x‖.
        right_norm: an upper bound of ‖y‖.
    """
    rounding = width * 2.0**-24
    return rounding / (1.0 - rounding) * left_norm * right_norm
