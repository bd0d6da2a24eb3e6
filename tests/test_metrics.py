"""Ranks from 1, ties against us, bags, and the prefilter's figures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hficma.metrics import (
    bags,
    chance,
    figures,
    intervals,
    median_interval,
    prefilter_recall,
    prefiltered_ranks,
    ranks,
    recall_interval,
    summary,
    top_mask,
)


@given(seed=st.integers(0, 10_000), size=st.integers(1, 30), levels=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_ranks_count_from_one_and_ties_count_against_us(seed: int, size: int, levels: int) -> None:
    scores = np.random.default_rng(seed).integers(levels, size=(size, size)).astype(float)
    for row, rank in enumerate(ranks(scores)):
        better = sum(scores[row, j] > scores[row, row] for j in range(size))
        tied = sum(scores[row, j] == scores[row, row] for j in range(size) if j != row)
        assert rank == 1 + better + tied


def test_constant_scores_are_the_worst_and_perfect_ones_the_best() -> None:
    """An optimistic tie rule gives a collapsed model rank 1 everywhere."""
    assert ranks(np.zeros((7, 7))).tolist() == [7] * 7
    assert figures(ranks(np.eye(7))).median_rank == 1
    assert ranks(np.full((3, 3), np.nan)).tolist() == [3] * 3


def test_directions_are_the_right_way_round() -> None:
    """AdaMine's code measures recipe to image under the name of image to recipe."""
    scores = np.array([[1.0, 2.0], [0.0, 3.0]])  # photo 0 prefers recipe 1
    assert ranks(scores).tolist() == [2, 1]
    assert ranks(scores.T).tolist() == [1, 1]


def test_figures_are_percentages() -> None:
    result = figures(np.array([1, 2, 6, 20]))
    assert result.median_rank == 4
    assert result.recall == {1: 25.0, 5: 50.0, 10: 75.0}
    assert result.recall_sum == 150


def test_bags_repeat_with_the_seed_and_never_hold_an_item_twice() -> None:
    drawn = bags(500, 100, count=4, seed=1)
    assert all((a == b).all() for a, b in zip(drawn, bags(500, 100, count=4, seed=1), strict=True))
    assert all(len(set(bag.tolist())) == 100 for bag in drawn)
    assert (drawn[0] != drawn[1]).any()


def test_fewer_items_than_a_bag_give_one_bag_of_all() -> None:
    assert [bag.tolist() for bag in bags(5, 1000)] == [[0, 1, 2, 3, 4]]


def test_summary_is_mean_and_population_deviation() -> None:
    result = summary([figures(np.array([1, 3])), figures(np.array([3, 5]))])
    assert result["medR"] == (3.0, 1.0)
    assert result["R@1"] == (25.0, 25.0)


@given(seed=st.integers(0, 10_000), depth=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_prefiltered_ranks_are_those_of_reranking_the_top(seed: int, depth: int) -> None:
    generator = np.random.default_rng(seed)
    scores, cheap = generator.random((20, 20)), generator.random((20, 20))
    for row, rank in enumerate(prefiltered_ranks(scores, cheap, depth)):
        order = np.argsort(-cheap[row])
        top = sorted(order[:depth], key=lambda j: -scores[row, j])
        listed = [*top, *order[depth:]]
        assert rank == listed.index(row) + 1


def test_a_prefilter_as_wide_as_the_bag_changes_nothing() -> None:
    generator = np.random.default_rng(0)
    scores, cheap = generator.random((9, 9)), generator.random((9, 9))
    assert (prefiltered_ranks(scores, cheap, 9) == ranks(scores)).all()
    assert prefilter_recall(scores, cheap, 9) == 100


def test_prefilter_recall_asks_for_the_best_item_not_for_the_partner() -> None:
    scores = np.array([[0.0, 5.0, 1.0], [0.0, 5.0, 1.0], [0.0, 1.0, 5.0]])
    cheap = np.array([[9.0, 1.0, 2.0], [1.0, 9.0, 2.0], [1.0, 9.0, 2.0]])
    assert prefilter_recall(scores, cheap, 1) == pytest.approx(100 / 3)


def test_top_mask_keeps_ties_at_the_edge() -> None:
    assert top_mask(np.array([[1.0, 2.0, 2.0, 3.0]]), 2).tolist() == [[False, True, True, True]]


def test_a_recall_of_few_queries_says_how_little_it_knows() -> None:
    """R@10 of three pairs is 100 whatever the model; Wilson's ends are as in published tables."""
    low, high = recall_interval(100.0, 3)
    assert low == pytest.approx(43.85, abs=0.01)
    assert high == pytest.approx(100)
    assert recall_interval(50.0, 10) == pytest.approx((23.66, 76.34), abs=0.01)
    assert chance(3) == {"medR": 2.0, "R@1": pytest.approx(100 / 3), "R@5": 100.0, "R@10": 100.0}


@given(drawn=st.lists(st.integers(1, 500), min_size=1, max_size=60))
@settings(max_examples=50, deadline=None)
def test_figures_lie_within_their_intervals_and_more_queries_narrow_them(drawn: list[int]) -> None:
    ranks_ = np.array(drawn)
    shown, ends = figures(ranks_), intervals(ranks_)
    values = {"medR": shown.median_rank, **{f"R@{k}": v for k, v in shown.recall.items()}}
    for name, value in values.items():
        low, high = ends[name]
        assert low - 1e-9 <= value <= high + 1e-9
    for name, (low, high) in intervals(np.tile(ranks_, 20)).items():
        assert high - low <= ends[name][1] - ends[name][0] + 1e-9


def test_the_medians_interval_holds_the_true_median_as_often_as_it_says() -> None:
    """Of 400 samples of 40 ranks, 95 % and a little more: ranks are whole numbers."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        low, high = median_interval(generator.geometric(0.05, size=40))
        held += low <= 14 <= high
    assert 0.93 <= held / 400 <= 1.0


def test_one_bag_has_no_deviation() -> None:
    """ "± 0.0" reads as if the figure were sure."""
    one = figures(np.array([1, 2, 6, 20]))
    assert summary([one])["R@1"] == (25.0, None)
    assert summary([one, one])["R@1"] == (25.0, 0.0)
