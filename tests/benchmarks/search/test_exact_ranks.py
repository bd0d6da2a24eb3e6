"""Ranks found by bounds are those of scoring everything, within what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hficma.benchmarks.search.exact_ranks import Cost, affordable, affordable_queries, search_rank
from hficma.metrics import prefiltered_ranks, ranks

WEIGHT_GLOBAL, WEIGHT_LOCAL = 0.5, 0.5


@st.composite
def scored_items(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """S_global and S_local of some items, and which of them is the true one."""
    count = draw(st.integers(2, 30))
    # Few distinct values, so that ties are common.
    cosines = st.integers(-8, 8).map(lambda value: value / 8)
    shares = st.integers(0, 8).map(lambda value: value / 8)
    global_ = draw(st.lists(cosines, min_size=count, max_size=count))
    local = draw(st.lists(shares, min_size=count, max_size=count))
    return np.array(global_), np.array(local), draw(st.integers(0, count - 1))


@given(scored_items(), st.integers(0, 40))
def test_bounds_hold_and_meet_where_the_budget_suffices(
    items: tuple[np.ndarray, np.ndarray, int], budget: int
) -> None:
    """Otherwise recall would be claimed that scoring every pair does not give."""
    global_, local, true = items
    total = WEIGHT_GLOBAL * global_ + WEIGHT_LOCAL * local
    ceilings = WEIGHT_GLOBAL * global_ + WEIGHT_LOCAL
    others = np.delete(np.arange(len(total)), true)
    found = search_rank(
        total[true], ceilings[true], ceilings[others], lambda i: total[others][i], budget
    )
    rank = int((total >= total[true]).sum())
    assert found.low <= rank <= found.high
    assert found.scored <= budget
    assert found.by_global == (global_ >= global_[true]).sum()
    if budget >= len(others):
        assert found.low == found.high == rank


@given(st.integers(2, 25), st.integers(1, 30), st.integers(0, 10_000))
def test_reranking_some_candidates_gives_the_ranks_of_the_definition(
    count: int, candidates: int, seed: int
) -> None:
    """The table of candidates would not be what a search with so many gives."""
    rng = np.random.default_rng(seed)
    global_, local = rng.normal(size=(count, count)), rng.random((count, count))
    total = WEIGHT_GLOBAL * global_ + WEIGHT_LOCAL * local
    ceilings = WEIGHT_GLOBAL * global_ + WEIGHT_LOCAL
    wanted = prefiltered_ranks(total, global_, candidates)
    every = ranks(total)
    for true in range(count):
        others = np.delete(np.arange(count), true)
        found = search_rank(
            total[true, true],
            ceilings[true, true],
            ceilings[true, others],
            lambda items, true=true, others=others: total[true, others[items]],
            max(candidates, count),
        )
        assert found.low == every[true]
        assert found.reranked(candidates) == wanted[true]


def test_only_what_may_pass_is_scored() -> None:
    """Else 10,000 x 10,000 would not end on a small machine."""
    ceilings = np.array([0.9, 0.2, 0.8, 0.5, 0.1])
    asked: list[int] = []

    def score(items: np.ndarray) -> np.ndarray:
        asked.extend(items.tolist())
        return np.array([0.85, 0.3])[: len(items)]

    found = search_rank(0.6, 1.0, ceilings, score, budget=10)
    assert asked == [0, 2]
    assert (found.low, found.high, found.scored) == (2, 2, 2)


COST = Cost(query=0.001, pair=1e-4)


@pytest.mark.parametrize(("seconds", "budget"), [(1e-9, 1), (0.5, 32), (2.0, 128), (1e9, 1000)])
def test_budgets_are_powers_of_two_within_their_time(seconds: float, budget: int) -> None:
    """A budget that follows every change of the machine would change the ranks it leaves open."""
    assert affordable(100, 1000, COST, seconds) == budget
    assert 100 * (COST.query + budget * COST.pair) <= max(seconds, 0.2)


@pytest.mark.parametrize(("seconds", "count"), [(0.0, 50), (11.0, 100), (1e9, 800)])
def test_queries_with_exact_ranks_fit_their_time_but_are_never_too_few(
    seconds: float, count: int
) -> None:
    """A recall of three queries says nothing; one that takes a night is not waited for."""
    assert affordable_queries(800, 1000, COST, seconds) == count
