"""The benchmark of chances: what it calls an error, and that it judges by what was not fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hficma.benchmarks.quality.sureness import (
    brier,
    calibration_error,
    judge_bundle,
    judge_cross_fit,
)
from hficma.sureness import ScoreCalibration, SurenessFacts
from hficma.training.sureness.pools import CrossFitScores
from tests.engine.factories import tiny_bundle


def test_chances_that_come_true_have_no_error() -> None:
    """By bins: of 100 answers told 0.3, thirty are right, and of 100 told 0.8, eighty."""
    chance = np.repeat([0.3, 0.8], 100)
    truth = np.concatenate([np.arange(100) % 10 < 3, np.arange(100) % 10 < 8])
    assert calibration_error(chance, truth) == pytest.approx(0.0)
    assert calibration_error(np.full(200, 0.65), truth) > 20
    assert calibration_error(np.ones(50), np.zeros(50, bool)) == pytest.approx(100.0)


def test_the_brier_score_of_the_base_rate_is_its_variance() -> None:
    """What every answer's own chance is compared with."""
    truth = np.arange(100) < 30
    assert brier(np.full(100, 0.3), truth) == pytest.approx(truth.var())
    assert brier(truth.astype(float), truth) == 0.0


def test_cross_fitted_scores_are_judged_by_size() -> None:
    """Normal scores obey the formula: chances are right, and the best are told from the rest."""
    generator = np.random.default_rng(0)
    scores = generator.normal(0.0, 0.2, (400, 400)) + np.diag(np.full(400, 0.7))
    crossfit = CrossFitScores(scores, np.arange(400), np.arange(400) % 2)
    records = judge_cross_fit(crossfit)
    assert [record["pool"] for record in records] == [50, 147, 300, 399]
    for record in records:
        assert record["first"]["error"] < 12  # 40 answers a bin
        assert record["first"]["brier"] < record["first"]["base"]
        assert record["sure_without"] < 0.1


def test_a_bundle_is_judged_by_its_answers(tmp_path: Path) -> None:
    """Over the dataset's test pairs, in both directions."""
    bundle = tiny_bundle(tmp_path, "adamine")
    told = ScoreCalibration(slope=3.0, offset=-1.0, spread=0.2, crowd=100.0)
    facts = SurenessFacts(image=told, recipe=told, pairs=100, folds=2)
    for role in ("image", "recipe"):
        (record,) = judge_bundle(bundle, "sample:300", role, facts)
        assert record["pool"] + 1 == record["queries"] >= 20
        assert 0 <= record["first"]["share"] <= record["first_ten"]["share"] <= 1
