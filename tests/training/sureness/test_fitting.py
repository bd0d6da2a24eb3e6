"""Calibrations say what they were fitted on, and keep what the words promise."""

from __future__ import annotations

import numpy as np
import pytest

from hficma.sureness import TEN, ScoreCalibration
from hficma.training.sureness.fitting import SURE_ABSENT, SURE_RIGHT, fit_calibration
from hficma.training.sureness.pools import Chances, CrossFitScores, Pools

SPREAD, LEAD = 0.2, 0.6
"""Of wrong items' scores, and of how much more the right ones have: d' = 3."""
SIZES = (1, 3, 20, 100)


def crossfit(queries: int, *, level: float = 0.0, seed: int = 0) -> CrossFitScores:
    """Normal scores of queries with 200 items, some queries scoring high with everything."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(0.0, SPREAD, (queries, 200))
    scores += generator.normal(0.0, level, (queries, 1))
    partners = generator.integers(0, 200, queries)
    scores[np.arange(queries), partners] += LEAD
    return CrossFitScores(scores, partners, np.arange(queries) % 2)


@pytest.fixture(scope="module")
def calibration() -> ScoreCalibration:
    return fit_calibration(crossfit(600, level=0.03), SIZES)


def test_the_ratio_is_that_of_the_densities(calibration: ScoreCalibration) -> None:
    """Two normals of one spread, apart by a lead, have the log ratio (lead / spread²) s + b."""
    slope = LEAD / SPREAD**2
    assert calibration.slope == pytest.approx(slope, rel=0.1)
    assert calibration.offset == pytest.approx(-slope * LEAD / 2, rel=0.2)
    assert calibration.spread == pytest.approx(SPREAD, rel=0.1)
    # Independent scores need no stretching.
    assert calibration.first.slope == pytest.approx(1.0, abs=0.25)


def test_chances_come_true(calibration: ScoreCalibration) -> None:
    """Answers of new queries are right as often as is said of them, at a size not fitted at too."""
    for size in (20, 60, 150):
        pools = Pools.draw(crossfit(1500, level=0.03, seed=1), size, seed=2)
        present = Chances.of(pools.present, calibration)
        absent = Chances.of(pools.absent, calibration)
        assert present.first.mean() == pytest.approx((pools.ranks == 1).mean(), abs=0.04)
        assert present.first_ten.mean() == pytest.approx((pools.ranks <= TEN).mean(), abs=0.04)
        said, truth = np.concatenate([present.absent, absent.absent]), np.repeat([0.0, 1.0], 1500)
        assert ((said - truth) ** 2).mean() <= 0.25 + 1e-3, "no worse than to say even odds"


def test_sure_keeps_its_promise(calibration: ScoreCalibration) -> None:
    """Of new queries: most answers called sure are right, and few are where there is none."""
    assert calibration.sure < 1.0
    scores = crossfit(1500, level=0.03, seed=3)
    for size in SIZES:
        pools = Pools.draw(scores, size, seed=4)
        called = Chances.of(pools.absent, calibration).first_in_all >= calibration.sure
        assert called.mean() <= SURE_ABSENT + 0.02
    called = Chances.of(pools.present, calibration).first_in_all >= calibration.sure
    assert called.mean() > 0.05
    assert (pools.ranks == 1)[called].mean() >= SURE_RIGHT - 0.05


def test_queries_that_score_high_with_everything_are_no_evidence() -> None:
    """The wilder the queries' own level, the less a high one says of presence."""
    calm, wild = (fit_calibration(crossfit(400, level=level), SIZES) for level in (0.0, 0.3))
    assert wild.crowd < calm.crowd / 3


def test_scores_that_say_nothing_are_never_sure() -> None:
    """A model that ranks at random must not be said to know."""
    scores = crossfit(300)
    blind = scores._replace(scores=np.random.default_rng(9).normal(size=scores.scores.shape))
    calibration = fit_calibration(blind, SIZES)
    pools = Pools.draw(blind, 50, seed=5)
    assert calibration.sure == 1.0
    assert Chances.of(pools.present, calibration).first.max() < 0.2


def test_pools_hold_each_item_once_and_the_right_one_first() -> None:
    """A query's own item twice, or none where it should be, would teach nonsense."""
    scores = crossfit(40)
    numbered = scores._replace(scores=np.tile(np.arange(200.0), (40, 1)))
    pools = Pools.draw(numbered, 30, seed=1)
    assert pools.size == pools.present.shape[1] == pools.absent.shape[1] == 30
    assert (pools.present[:, 0] == scores.partners).all()
    for row, partner in zip(pools.scores, scores.partners, strict=True):
        assert len(set(row)) == 31
        assert partner not in row[1:]
    assert Pools.draw(scores, 10_000).size == 199


def test_ties_count_against_the_right_item() -> None:
    """As in every figure of the project."""
    level = CrossFitScores(np.zeros((2, 5)), np.array([0, 3]), np.array([0, 1]))
    assert (Pools.draw(level, 4).ranks == 4).all()
