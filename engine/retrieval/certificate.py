"""Rank items by S, and prove how many of the first ranks no other item can change.

S = w_g g + w_l l, where g = S_global is cheap for every item and l = S_local is expensive and lies
in [0, c]: a sigmoid, of which S counts no more than c (`ScoreWeights.limit`, 1 unless the model
says otherwise). Candidates come in batches by falling g, each with an upper bound on the g of every
item behind it.

*Claim.* Let b bound the g of all items that were not scored. Then every one of them has
S <= w_g b + w_l c =: B, so a scored item with S > B stands before all of them; and once the m best
scored items all have S > B, they are the m best of all items, in this order.

*Proof.* w_g > 0 and l <= c give w_g g + w_l l <= w_g b + w_l c for every item not scored. Each of
the m items is then above every item not scored, and above every scored item that follows it because
those were sorted.

    S  ^ x
       |   x   x                      x  scored, sorted
       | --------x----- B ---------   three ranks are proved: nothing unseen reaches B
       |             x  x
       +-----------------------> rank

Two roundings are allowed for, so that the proof holds for the numbers that are really computed:
b contains how far the first stage's scores may be from g (δ, `PrefilterFacts.score_error`), and
`score_upper_bound` adds how far a computed S may be from the same pair's S in another company (ε).
Equality proves nothing: an unseen item with the same score and a lower position would stand first.
What is proved is the answer of scoring every item in the same bundle, runtime and precision.

Why no bound on l is worked out from the weights and what is known of an item: the MLP that l comes
from reaches far more over all vectors that it could be given than over those that it is given.
`hficma bench certificate` finds such vectors, by gradient ascent, and counts what even a perfect
bound over them would certify; see `docs/explanation/certificate.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from hficma.errors import ArtifactError
from hficma.scores import ScoreWeights
from hficma.types import Floats64, Positions

from ..index.candidates import CandidateBatch

MARGIN = 4.0
"""An ε that is measured is so many times the largest difference that was seen."""
EPSILON = 1e-5
"""ε: how far S of one pair may move with what is scored beside it, in units of w_l.

S_local of a pair does not depend on its tile's other items but through the last bits of a
runtime's kernels; float32 leaves 6e-8 a rounding, and the softmaxes and means average them. This
is `MARGIN` times the largest difference, rounded up, that `hficma bench screening` sees between
pairs scored in one company and in another; the compiled kernels give equal bits in any.
"""
EPSILON_PAIRS = 1_092_416
"""Pairs over which that was measured."""


class ItemScores(NamedTuple):
    """Scores of N items for one query."""

    total: Floats64
    """S = w_g g + w_l l, (N,)."""
    global_: Floats64
    """g = S_global, (N,)."""
    local: Floats64
    """l = S_local in [0, 1], (N,); zeros for a model without a local part."""

    def select(self, places: Positions) -> ItemScores:
        """Return the scores of some items.

        Args:
            places: (K,) where they stand among the N.
        """
        return ItemScores(*(scores[places] for scores in self))

    def join(self, other: ItemScores) -> ItemScores:
        """Return the scores of both, (N + K,): these, then the others.

        Args:
            other: of K items.
        """
        return ItemScores(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


class RescoredItems(NamedTuple):
    """Items of a ranking's query that were only known to stand behind, and were scored again."""

    places: Positions
    """(n,) how many of the query's items were scored before each."""
    items: Positions
    """(n,) positions in the index."""
    scores: ItemScores
    """Of them, in float32."""


class Ranking(NamedTuple):
    """The best of the items that were scored, best first."""

    items: Positions
    """(min(k, N),) positions in the index."""
    scores: ItemScores
    """Of `items`."""
    certified: int
    """How many of the first ranks are proved."""
    totals: Floats64
    """(scored,) S of every item that was scored, those behind the best too, in that order."""
    bound: float
    """B: no item that was not scored has more; -inf where all were."""

    @property
    def scored(self) -> int:
        """Return how many items were scored."""
        return len(self.totals)

    def rescored(self, again: RescoredItems) -> Ranking:
        """Return the ranking with items in it that stood behind it, by their scores of now.

        As many ranks are proved, or more: what comes in has more than what it displaces.

        Args:
            again: none of the ranking's own items.
        """
        _check_scores(again.scores)
        items, scores = k_best(
            np.concatenate([self.items, again.items]),
            self.scores.join(again.scores),
            len(self.items),  # k: where fewer were scored, none of them was left behind
        )
        totals = self.totals.copy()
        totals[again.places] = again.scores.total
        return Ranking(items, scores, certified_ranks(scores, self.bound), totals, self.bound)


def rank_with_certificate(
    batches: Iterable[CandidateBatch],
    score: Callable[[Positions], ItemScores],
    *,
    k: int,
    exact: bool,
    weights: ScoreWeights,
) -> Ranking:
    """Rank the k best items, and count the ranks that are proved.

    Args:
        batches: candidates with a bound on all that follow; the faster the bounds fall, the sooner
            the proof. Without `exact` only the first is taken.
        score: scores items, given their positions (K,); called once for a batch.
        k: ranks to return.
        exact: take batches until all k ranks are proved, or none is left.
        weights: w_g and w_l.

    Returns:
        the ranking by falling S; equal scores stand in the order of their positions.

    Raises:
        ArtifactError: a score is not finite, or an l not in [0, 1]: then no proof holds.
    """
    items = np.empty(0, dtype=np.int64)
    scores = ItemScores(np.empty(0), np.empty(0), np.empty(0))
    totals = [np.empty(0)]
    certified, bound = 0, math.inf
    for batch in batches:
        batch_scores = score(batch.items)
        _check_scores(batch_scores)
        totals.append(batch_scores.total)
        # Only k stay: the others are behind k scored items and can never come back.
        items, scores = k_best(np.concatenate([items, batch.items]), scores.join(batch_scores), k)
        # This batch's bound holds for all that is still unscored.
        bound = score_upper_bound(batch.upper_bound, weights)
        certified = certified_ranks(scores, bound)
        if certified == k or not exact:
            break
    return Ranking(items, scores, certified, np.concatenate(totals), bound)


def k_best(items: Positions, scores: ItemScores, k: int) -> tuple[Positions, ItemScores]:
    """Return the k best items by falling S, then by position, and their scores.

    Equal scores so stand the same way in every search.

    Args:
        items: (N,) positions in the index.
        scores: of them.
        k: how many.
    """
    best = np.lexsort((items, -scores.total))[:k]
    return items[best], scores.select(best)


def certified_ranks(scores: ItemScores, bound: float) -> int:
    """Return how many of the first ranks are proved.

    Args:
        scores: of ranked items, by falling S.
        bound: B.
    """
    # The first rank below B ends the proved ones. The sentinel stands for "none": where all ranks
    # beat the bound, argmax finds it behind them.
    return int(np.argmax(np.append(scores.total < bound, True)))


def score_upper_bound(global_bound: float, weights: ScoreWeights) -> float:
    """Return B, the S that no item whose g is at most `global_bound` can exceed as computed.

    A score below B proves nothing and a score of B or more proves its rank: the margins below keep
    B itself strictly above whatever such an item can score, so that equal scores cannot meet there.

    Args:
        global_bound: b; -inf where no item is left, inf where nothing is known of those left.
        weights: w_g and w_l.
    """
    if math.isinf(global_bound):
        return global_bound  # inf - inf below would be NaN, which compares as proved
    bound = weights.total(global_bound, 1.0)  # `total` counts no more of l than c
    # ε for l, and a float64 rounding of S and of the bound itself, some 4,000 units in the last
    # place: both are far more than can be lost and far less than what tells two items apart.
    return bound + EPSILON * weights.local + 1e-12 * (abs(bound) + 1.0)


def _check_scores(scores: ItemScores) -> None:
    """Refuse scores that damaged vectors or weights give: a NaN sorts anywhere, and l > 1 lies."""
    local = scores.local
    if not np.isfinite(scores.total).all() or ((local < 0.0) | (local > 1.0)).any():
        raise ArtifactError(
            "a score is not finite, or S_local not within 0 and 1: the model's weights or the "
            "index's vectors are damaged; see `hficma index verify`, or make both again"
        )
