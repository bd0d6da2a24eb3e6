"""Scores of queries that no model had learnt from, and pools of items drawn of them.

scores[q]     all items, that of the query itself too
|
Pools         its own item, then others at random        (Q, 1 + N)
present: the first N        absent: the last N
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hficma.sureness import ScoreCalibration, Sureness, sureness
from hficma.types import AnyFloats, Floats64, Mask, Positions, Ranks

POOLS = (50, 147, 300, 500, 1000, 1900)
"""Items a pool: 147 is a test of the usual size, 300 a cookbook."""
SMALL = (1, 3, 10, 20)
"""Smaller pools, as filters leave them. The first of few items is soon the right one if any is:
the best of three wrong ones must not look sure."""


class CrossFitScores(NamedTuple):
    """S of queries with items, each query scored by a model that had not learnt from its pair."""

    scores: AnyFloats
    """(Q, N)."""
    partners: Positions
    """(Q,) which of the N items is the query's own."""
    folds: Positions
    """(Q,) the fold that each query was held out with: what is fitted on the others may be judged
    by it."""

    def select(self, queries: Positions | Mask) -> CrossFitScores:
        """Return the scores of some of the queries."""
        return CrossFitScores(self.scores[queries], self.partners[queries], self.folds[queries])


class Chances(NamedTuple):
    """How sure the answers of Q queries are, all over pools of one size."""

    first: Floats64
    """(Q,) chance that the first rank is right, given that the right item is in the pool."""
    first_ten: Floats64
    """(Q,) chance that the first ten hold it, given that."""
    absent: Floats64
    """(Q,) chance that it is not in the pool."""

    @classmethod
    def of(cls, scores: AnyFloats, calibration: ScoreCalibration) -> Chances:
        """Return the chances of each row of scores (Q, N), all items scored."""
        answers = [sureness(row, len(row), calibration) for row in scores]
        return cls(*(_column(answers, name) for name in cls._fields))

    @property
    def first_in_all(self) -> Floats64:
        """Return (Q,) the chance that the first rank is right, absence counted in."""
        return self.first * (1.0 - self.absent)


class Pools(NamedTuple):
    """Pools of one size, drawn for Q queries."""

    scores: AnyFloats
    """(Q, 1 + N): the query's own item's, then those of N others."""

    @classmethod
    def draw(cls, crossfit: CrossFitScores, size: int, seed: int = 0) -> Pools:
        """Draw a pool for each query.

        Args:
            crossfit: scores of Q queries with more than one item.
            size: N; at most as many as there are others.
            seed: the same seed draws the same pools.
        """
        generator = np.random.default_rng(seed)
        items = crossfit.scores.shape[1]
        size = min(size, items - 1)
        rows = []
        for scores, partner in zip(crossfit.scores, crossfit.partners, strict=True):
            others = generator.choice(items - 1, size, replace=False)
            others += others >= partner  # the partner itself is none of them
            rows.append(np.concatenate([scores[[partner]], scores[others]]))
        return cls(np.stack(rows).astype(np.float64))

    @property
    def size(self) -> int:
        """Return N."""
        return int(self.scores.shape[1]) - 1

    @property
    def present(self) -> AnyFloats:
        """Return (Q, N) scores with each query's own item in the pool, as the first."""
        return self.scores[:, :-1]

    @property
    def absent(self) -> AnyFloats:
        """Return (Q, N) scores with another item in its place."""
        return self.scores[:, 1:]

    @property
    def ranks(self) -> Ranks:
        """Return (Q,) the ranks of the queries' own items, from 1; ties count against them."""
        ranks: Ranks = (self.present >= self.present[:, :1]).sum(axis=1)
        return ranks


def _column(answers: list[Sureness], name: str) -> Floats64:
    return np.array([getattr(answer, name) for answer in answers])
