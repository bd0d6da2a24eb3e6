"""Certified ranks are what scoring every item gives, whatever the index looks like."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hficma.engine.index.candidates import CandidateBatch, dot_error
from hficma.engine.retrieval.certificate import (
    EPSILON,
    ItemScores,
    Positions,
    rank_with_certificate,
)
from hficma.scores import ScoreWeights

WEIGHTS = st.sampled_from(
    [(0.2, 0.8), (1.0, 0.0), (0.01, 5.0), (3.0, 0.5), (0.5, 0.5, 0.7), (0.2, 0.8, 1e-3)]
)
"""w_g, w_l and, of some, the most that l counts: what lies above it is many equal scores."""


class Items:
    """A made-up index: exact g, the g that a prefilter with error at most δ sees, and l."""

    def __init__(
        self, global_: np.ndarray, seen: np.ndarray, local: np.ndarray, weights: tuple[float, ...]
    ) -> None:
        self.global_, self.seen, self.local = global_, seen, local
        self.weights = ScoreWeights(*weights)
        self.delta = float(np.abs(global_ - seen).max(initial=0.0))

    def score(self, items: Positions) -> ItemScores:
        global_, local = self.global_[items], self.local[items]
        return ItemScores(self.weights.total(global_, local), global_, local)

    def batches(self, step: int, allowed: np.ndarray) -> Iterator[CandidateBatch]:
        order = allowed[np.argsort(-self.seen[allowed], kind="stable")]
        for start in range(0, len(order), step):
            rest = order[start + step :]
            upper_bound = self.seen[rest[0]] + self.delta if len(rest) else -math.inf
            yield CandidateBatch(order[start : start + step], float(upper_bound))

    def everything(self, allowed: np.ndarray) -> Positions:
        total = self.score(allowed).total
        return allowed[np.lexsort((allowed, -total))]


@st.composite
def drawn_items(draw: st.DrawFn) -> tuple[Items, np.ndarray]:
    """Indexes with what breaks proofs: ties, negative g, saturated l, a lossy prefilter."""
    count = draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0.0, 1e-7, 0.1, 1.0, 50.0]))
    global_ = rng.normal(draw(st.sampled_from([-20.0, 0.0, 3.0])), 1.0, count) * spread
    if draw(st.booleans()):
        global_ = np.round(global_)  # many equal scores
    local = {
        "random": rng.uniform(size=count),
        "saturated": np.ones(count),
        "dead": np.zeros(count),
        "two values": rng.integers(0, 2, count).astype(float),
    }[draw(st.sampled_from(["random", "saturated", "dead", "two values"]))]
    error = draw(st.sampled_from([0.0, 1e-3, 0.5, 10.0]))
    seen = global_ + rng.uniform(-error, error, count)
    if draw(st.booleans()):
        # The prefilter is wrong by its whole error, in the order that hurts most.
        seen = global_ - error * np.sign(global_ - np.median(global_) if count else 0.0)
    allowed = np.flatnonzero(rng.uniform(size=count) < draw(st.sampled_from([0.0, 0.3, 1.0])))
    return Items(global_, seen, local, draw(WEIGHTS)), allowed


@given(drawn_items(), st.integers(1, 50), st.integers(1, 20), st.booleans())
def test_certified_ranks_equal_scoring_everything(
    drawn: tuple[Items, np.ndarray], k: int, step: int, exact: bool
) -> None:
    """A certificate that lies here would lie to users."""
    items, allowed = drawn
    ranking = rank_with_certificate(
        items.batches(step, allowed),
        items.score,
        k=k,
        exact=exact,
        weights=items.weights,
    )
    best = items.everything(allowed)[:k]
    certified = ranking.certified
    assert certified <= len(ranking.items) <= k
    np.testing.assert_array_equal(ranking.items[:certified], best[:certified])
    if exact:
        assert certified == len(best)


@given(drawn_items(), st.integers(1, 10))
def test_without_exact_only_the_first_batch_is_scored(
    drawn: tuple[Items, np.ndarray], k: int
) -> None:
    """A plain search must not become a scan."""
    items, allowed = drawn
    ranking = rank_with_certificate(
        items.batches(7, allowed), items.score, k=k, exact=False,
        weights=items.weights,
    )  # fmt: skip
    assert ranking.scored == min(7, len(allowed))


def test_exact_stops_as_soon_as_nothing_unseen_can_enter() -> None:
    """Scoring on after the proof would waste the certificate."""
    global_ = -np.arange(1000.0)
    items = Items(global_, global_, np.full(1000, 0.5), (0.2, 0.8))
    ranking = rank_with_certificate(
        items.batches(10, np.arange(1000)), items.score, k=10, exact=True,
        weights=ScoreWeights(0.2, 0.8),
    )  # fmt: skip
    assert ranking.certified == 10
    assert ranking.scored == 20


def test_an_unknown_bound_certifies_nothing_until_all_are_scored() -> None:
    """IVF and HNSW skip items: no score found can be proved."""
    items = Items(np.array([9.0, 1.0]), np.array([9.0, 1.0]), np.zeros(2), (1.0, 0.0))
    first = CandidateBatch(np.array([0]), math.inf)
    options = {"k": 1, "weights": ScoreWeights(1.0, 0.0)}
    assert rank_with_certificate([first], items.score, exact=False, **options).certified == 0
    rest = CandidateBatch(np.array([1]), -math.inf)
    assert rank_with_certificate([first, rest], items.score, exact=True, **options).certified == 1


def test_a_score_equal_to_the_bound_is_not_proved() -> None:
    """An unseen item with an equal score and a lower position would stand before it."""
    items = Items(np.array([1.0, 1.0]), np.array([1.0, 1.0]), np.zeros(2), (1.0, 0.0))
    batch = CandidateBatch(np.array([1]), 1.0)
    ranking = rank_with_certificate(
        [batch], items.score, k=1, exact=False, weights=ScoreWeights(1.0, 0.0)
    )
    assert ranking.certified == 0
    assert EPSILON > 0


@given(st.integers(1, 3000), st.integers(0, 1000))
def test_float32_products_stay_within_their_bound(width: int, seed: int) -> None:
    """δ of an exact prefilter is this bound: were it too small, certificates could lie."""
    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(2, width)).astype(np.float32) * 100
    exact = float(left.astype(np.float64) @ right.astype(np.float64))
    sequential = np.float32(0)
    for product in left * right:
        sequential = np.float32(sequential + product)
    norms = (float(np.linalg.norm(v.astype(np.float64))) for v in (left, right))
    assert abs(float(sequential) - exact) <= dot_error(width, *norms)


def test_ranking_of_nothing_is_empty() -> None:
    """A filter may leave no item."""
    items = Items(np.empty(0), np.empty(0), np.empty(0), (0.2, 0.8))
    batch = CandidateBatch(np.empty(0, dtype=np.int64), -math.inf)
    ranking = rank_with_certificate(
        [batch], items.score, k=5, exact=True, weights=ScoreWeights(0.2, 0.8)
    )
    assert (len(ranking.items), ranking.certified) == (0, 0)
    assert ranking.scores.total.shape == (0,)


@pytest.mark.parametrize("upper_bound", [-math.inf, math.inf])
def test_infinite_bounds_pass_through(upper_bound: float) -> None:
    """inf minus inf would be NaN, which compares as proved."""
    items = Items(np.array([1.0]), np.array([1.0]), np.ones(1), (0.2, 0.8))
    ranking = rank_with_certificate(
        [CandidateBatch(np.array([0]), upper_bound)], items.score, k=1, exact=False,
        weights=ScoreWeights(0.2, 0.8),
    )  # fmt: skip
    assert ranking.certified == (1 if upper_bound < 0 else 0)
