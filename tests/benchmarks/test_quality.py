"""The quality table's parts: folds that never touch the test pairs, and its intervals."""

from __future__ import annotations

import numpy as np

from hficma.benchmarks.bootstrap import estimates
from hficma.benchmarks.folds import folds
from hficma.benchmarks.quality import METHODS
from hficma.data.dataset import open_dataset, positions
from hficma.training import load_options, presets


def test_folds_hold_each_pair_once_and_no_test_pair() -> None:
    """A test pair that is trained on, or chosen by, makes the table worthless."""
    dataset = open_dataset("sample:200")
    test = set(positions(dataset, ("test",)).tolist())
    seen: list[int] = []
    for part, fold in folds(dataset, 5):
        train = positions(part, ("train",), with_photo=True)
        validation = positions(part, ("val",), with_photo=True)
        assert validation.tolist() == fold.tolist()
        assert not set(train.tolist()) & set(fold.tolist())
        assert not test & set(train.tolist()) | test & set(fold.tolist())
        assert len(positions(part, ("test",), with_photo=True)) == 0
        seen += fold.tolist()
    assert sorted(seen) == positions(dataset, ("train", "val"), with_photo=True).tolist()


def test_an_interval_holds_its_value_and_narrows_with_queries() -> None:
    few = np.random.default_rng(0).integers(1, 100, size=(3, 50))
    many = np.random.default_rng(0).integers(1, 100, size=(3, 5000))
    widths = []
    for found in (few, many):
        figure = estimates(found)["R@10"]
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert len(figure["seeds"]) == 3
        widths.append(figure["high"] - figure["low"])
    assert widths[1] < widths[0] / 3


def test_a_method_against_itself_differs_by_nothing() -> None:
    """Unpaired, two resamplings of the same ranks would differ by chance."""
    found = np.random.default_rng(1).integers(1, 100, size=(2, 80))
    difference = estimates(found, found)["R@5"]["against_baseline"]
    assert difference == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_every_method_of_the_table_names_real_options() -> None:
    for method in METHODS:
        load_options(method.preset, method.overrides)
    assert {method.preset for method in METHODS} >= set(presets()) - {"demo"}
