"""How sure an answer is: Bayes' rule over scores, and the words for it."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hficma.sureness import ScoreCalibration, Stretch, reference_sureness, sureness

PLAIN = ScoreCalibration(slope=9.5, offset=-1.4, spread=0.17, crowd=150.0, sure=0.7)
FITTED = replace(
    PLAIN, first=Stretch(slope=0.95, shift=0.6, crowding=0.2), first_ten=Stretch(slope=1.2)
)
CALIBRATIONS = st.sampled_from([PLAIN, FITTED])
SCORES = st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=40)


@given(SCORES, CALIBRATIONS)
def test_it_is_bayes_rule(scores: list[float], calibration: ScoreCalibration) -> None:
    """The form in logarithms is the derivation's, term by term."""
    fast = sureness(np.array(scores), len(scores), calibration)
    slow = reference_sureness(scores, calibration)
    assert fast.first == pytest.approx(slow.first, abs=1e-9)
    assert fast.first_ten == pytest.approx(slow.first_ten, abs=1e-9)
    assert fast.absent == pytest.approx(slow.absent, abs=1e-9)


@given(SCORES)
def test_the_chances_of_all_items_sum_to_one(scores: list[float]) -> None:
    """Each item's chance of being right is its λ over all: only the best was asked for, so each is
    put first by leaving out those before it."""
    falling = sorted(scores, reverse=True)
    total, left = 0.0, 1.0
    for place in range(len(falling)):
        rest = np.array(falling[place:])
        share = sureness(rest, len(rest), PLAIN).first  # of what those before it left
        total += left * share
        left *= 1.0 - share
    assert total == pytest.approx(1.0)


@given(SCORES, CALIBRATIONS, st.randoms(use_true_random=False))
def test_the_order_of_items_does_not_matter(
    scores: list[float], calibration: ScoreCalibration, random: object
) -> None:
    """Shards and batches come in any order."""
    shuffled = list(scores)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    pool = len(scores) + 7  # some were not scored
    assert sureness(np.array(shuffled), pool, calibration) == sureness(
        np.array(scores), pool, calibration
    )


@given(SCORES, CALIBRATIONS, st.floats(0.0, 1.0))
def test_a_larger_lead_is_surer(
    scores: list[float], calibration: ScoreCalibration, lead: float
) -> None:
    """Raising the best score alone cannot make its item less likely."""
    raised = np.array(scores)
    before = sureness(raised, len(scores), calibration)
    raised[raised.argmax()] += lead
    after = sureness(raised, len(scores), calibration)
    assert after.first >= before.first - 1e-12
    assert after.absent <= before.absent + 1e-12


@given(SCORES, CALIBRATIONS, st.floats(0.0, 1.0))
def test_more_items_are_less_sure(
    scores: list[float], calibration: ScoreCalibration, below: float
) -> None:
    """Each wrong item is one that might have been the right one."""
    more = np.array([*scores, min(scores) - below])
    small = sureness(np.array(scores), len(scores), calibration)
    large = sureness(more, len(more), calibration)
    assert large.first <= small.first + 1e-12
    assert large.first_ten <= small.first_ten + 1e-12


@given(SCORES, CALIBRATIONS, st.integers(0, 10**9))
def test_chances_are_chances(
    scores: list[float], calibration: ScoreCalibration, unscored: int
) -> None:
    """Whatever the pool, each lies in [0, 1], and ten ranks hold no less than one."""
    answer = sureness(np.array(scores), len(scores) + unscored, calibration)
    assert 0.0 <= answer.first <= answer.first_ten <= 1.0
    assert 0.0 <= answer.absent <= 1.0


def test_one_item_alone_is_first_but_need_not_be_right() -> None:
    """Tiramisù is the best answer to borscht where it is the only one, and no sure one."""
    alone = sureness(np.array([-0.1]), 1, FITTED)
    assert alone.first == alone.first_ten == 1.0
    assert alone.absent > 0.8
    assert alone.word == "a guess"
    assert sureness(np.array([0.6]), 1, FITTED).word == "sure"


def test_scores_of_any_size_are_weighed() -> None:
    """Exponentials of scores in thousands overflow unless the largest is taken out."""
    wide = replace(PLAIN, slope=1e3)
    assert sureness(np.array([5.0, -5.0]), 2, wide).first == pytest.approx(1.0)
    assert sureness(np.array([-5e3, -5e3]), 2, wide).first == pytest.approx(0.5)


@pytest.mark.parametrize(("pool", "scored"), [(1000, 200), (2000, 200), (20_000, 200)])
def test_items_that_were_not_scored_count_as_they_would(pool: int, scored: int) -> None:
    """A search scores the best candidates only; the many others still share the chance."""
    scores = np.random.default_rng(pool).normal(0.0, PLAIN.spread, pool)
    scores[0] = 0.8
    best = -np.sort(-scores)[:scored]
    whole, part = sureness(scores, pool, PLAIN), sureness(best, pool, PLAIN)
    ignorant = sureness(best, scored, PLAIN)
    assert part.first == pytest.approx(whole.first, rel=0.1)
    assert part.first_ten == pytest.approx(whole.first_ten, rel=0.1)
    assert abs(part.first - whole.first) < abs(ignorant.first - whole.first)
    # A little less, too, where the best of the rest are looked at than where none is.
    assert part.absent == pytest.approx(whole.absent, abs=0.01)


def test_absence_starts_from_any_chance() -> None:
    """Whoever knows that the dish is there, or that it hardly can be, says so."""
    answer = sureness(np.array([0.4, 0.1]), 2, PLAIN)
    assert answer.absent_at(0.5) == pytest.approx(answer.absent)
    assert answer.absent_at(1.0) == 0.0
    assert answer.absent_at(0.0) == 1.0
    chances = [answer.absent_at(prior) for prior in (0.1, 0.5, 0.9)]
    assert all(before > after for before, after in pairwise(chances))


@given(
    scores=st.lists(st.floats(-1.0, 1.0), min_size=11, max_size=40),
    calibration=CALIBRATIONS,
    unscored=st.integers(0, 1000),
    error=st.floats(0.0, 2e-3),
    exact=st.sampled_from([1, 5, 10]),
    seed=st.integers(0, 1000),
)
def test_scores_that_were_only_screened_move_no_chance_that_is_shown(
    scores: list[float],
    calibration: ScoreCalibration,
    unscored: int,
    error: float,
    exact: int,
    seed: int,
) -> None:
    """Items behind an answer may have scores in 16 bits, each off by up to some `error`.

    Each λ, and so what all of them add up to, moves by a factor of at most exp(a error): the odds
    of the first rank, which is exact, by as much, those of the first ten by twice as much, and a
    chance by a quarter of its odds' logarithm, times its stretch's slope.
    """
    falling = np.sort(np.array(scores))[::-1]
    errors = np.random.default_rng(seed).choice([-error, error], len(falling))
    errors[:exact] = 0.0
    # What is only screened stays behind what is exact.
    screened = np.minimum(falling + errors, np.where(errors == 0.0, 2.0, falling[exact - 1]))
    pool = len(scores) + unscored
    before = sureness(falling, pool, calibration)
    after = sureness(screened, pool, calibration)
    odds = calibration.slope * error + 1e-9
    # The chance of ten ranks is at least that of one.
    first = calibration.first.slope * odds / 4
    first_ten = max(first, calibration.first_ten.slope * 2 * odds / 4)
    assert abs(after.first - before.first) <= first
    assert abs(after.first_ten - before.first_ten) <= first_ten
    assert abs(after.absent - before.absent) <= odds / 4


def test_words_count_absence_in() -> None:
    """The best of wrong items may lead by far: only a score that right ones have is sure."""
    far_and_high = np.array([0.8, *[0.0] * 9])
    far_but_low = np.array([0.1, *[-0.9] * 9])
    assert sureness(far_and_high, 10, PLAIN).word == "sure"
    assert sureness(far_but_low, 10, PLAIN).first > 0.99
    assert sureness(far_but_low, 10, PLAIN).word != "sure"
    assert sureness(np.zeros(300), 300, PLAIN).word == "a guess"


def test_a_line_says_it_all() -> None:
    """The table has one line for it."""
    answer = sureness(np.array([0.3, 0.2]), 2, PLAIN)
    assert answer.text.startswith(f"{answer.word}: ")
    assert f"{100 * answer.first:.0f} % first" in answer.text
    assert f"{100 * answer.absent:.0f} % not here" in answer.text
    assert len(answer.text) <= 80
    assert math.isclose(answer.to_json()["first"], answer.first, abs_tol=1e-4)
