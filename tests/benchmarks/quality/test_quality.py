"""The quality table's parts: folds that never touch the test pairs, and its intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from hficma.benchmarks.pages.quality_tables import quality as quality_lines
from hficma.benchmarks.quality.bootstrap import estimates
from hficma.benchmarks.quality.quality import Quality, folds
from hficma.benchmarks.quality.table import METHODS, Method, run_record, with_figures
from hficma.data.dataset import Dataset, open_dataset, positions
from hficma.errors import InputError
from hficma.training import load_options, presets
from hficma.training.data.pairs.split import split
from hficma.training.scoring import ScoreTables


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
        assert set(positions(part, ("test",)).tolist()) == test
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
    named = [method for method in METHODS if method.preset is not None]
    for method in named:
        load_options(method.preset, method.overrides)
    assert {method.preset for method in named} >= set(presets()) - {"demo"}


def test_figures_follow_from_ranks_and_the_table_shows_them() -> None:
    """Scores with every true pair best give rank 1 both ways, against a baseline that has none."""
    right = np.eye(12, dtype=np.float32)
    best = run_record(1, ScoreTables(right, right, None), 2.0)
    worst = run_record(1, ScoreTables(-right, -right, None), 1.0)
    assert best["ranks"]["S"]["recipe_to_image"] == [1] * 12
    method = with_figures({"name": "one", "note": "a note", "runs": [best, best]}, [worst])
    photo = method["S"]["image_to_recipe"]
    assert photo["R@10"]["value"] == 100
    assert photo["R@10"]["against_baseline"]["value"] == 100
    assert method["seeds"] == 2
    report = {"title": "T", "test_pairs": 12, "baseline": "b", "methods": [method]}
    text = "\n".join(quality_lines(report))
    assert "+100.0 [+100, +100]" in text
    assert "* one: a note." in text


def test_the_prefilter_is_judged_by_the_best_of_the_whole_score() -> None:
    """Not by the true item: recall of the re-ranking is what the engine can lose."""
    whole = np.eye(200, dtype=np.float32)
    run = run_record(1, ScoreTables(whole, -whole, None), 1.0)
    assert run["prefilter_recall"]["image_to_recipe"] == {"10": 0.0, "50": 0.0, "100": 0.0}


class _Drawn(Quality):
    """The benchmark with drawn scores in the place of training, counting what would be trained."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset, "trunk", "vectors", Path())
        self.trained: list[tuple[str, int]] = []

    def _tables(self, method: Method, seed: int, rows: npt.NDArray[np.int64]) -> ScoreTables:
        self.trained.append((method.name, seed))
        drawn = np.random.default_rng(seed).random((len(rows), len(rows)), dtype=np.float32)
        return ScoreTables(drawn, drawn, None)


def test_a_fold_is_not_trained_on() -> None:
    """Presets without validation train on the validation pairs, whose place a fold takes."""
    dataset, seen = open_dataset("sample:200"), []

    class Kept(Quality):
        def _trained(
            self,
            dataset: Dataset,
            preset: str,
            overrides: Sequence[str],
            seed: int,
            rows: npt.NDArray[np.int64],
            run: Path | None = None,
        ) -> ScoreTables:
            options = load_options(preset, overrides)
            train, held_out = split(
                dataset, seed, print, validate=options.trainer.validation_pairs > 0
            )
            seen.append(not set(train.tolist()) & set(rows.tolist()))
            assert set(held_out.tolist()) == set(rows.tolist())
            scores = np.eye(len(rows), dtype=np.float32)
            return ScoreTables(scores, scores, None)

    Kept(dataset, "trunk", "vectors", Path()).cross_validate("best", ["trainer.epochs=3"])
    assert seen == [True] * 5


def test_runs_are_kept_by_method_and_seed(tmp_path: Path) -> None:
    """Two methods of one folder would be one run, whose bundle has the other's figures."""
    dataset, kept = open_dataset("sample:200"), []

    class Listed(Quality):
        def _trained(
            self,
            dataset: Dataset,
            preset: str,
            overrides: Sequence[str],
            seed: int,
            rows: npt.NDArray[np.int64],
            run: Path | None = None,
        ) -> ScoreTables:
            kept.append(run)
            scores = np.eye(len(rows), dtype=np.float32)
            return ScoreTables(scores, scores, None)

    places = {"lite2": "lite2.pth", "minilm": "minilm"}
    bench = Listed(dataset, "trunk", "vectors", Path(), places, tmp_path / "runs")
    bench.test(1, ["EfficientNet-Lite2 + words", "EfficientNet-Lite2 + words + MiniLM"])
    names = ["dual-encoder", "EfficientNet-Lite2-words", "EfficientNet-Lite2-words-MiniLM"]
    assert kept == [tmp_path / "runs" / f"{name}-seed-1" for name in names]


def test_the_report_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Half an hour of training must not be repeated for one more method, nor a part be lost."""
    dataset, file = open_dataset("sample:200"), tmp_path / "report.json"
    first = _Drawn(dataset)
    first.test(1, ["vse"], file)
    assert first.trained == [("dual-encoder", 1), ("vse", 1)]
    again = _Drawn(dataset)
    report = again.test(2, ["best", "vse"], file)
    assert again.trained == [("dual-encoder", 2), ("vse", 2), ("best", 1), ("best", 2)]
    assert [one["name"] for one in report["methods"]] == ["dual-encoder", "vse", "best"]
    assert json.loads(file.read_text())["methods"] == report["methods"]


def test_runs_of_other_options_or_another_dataset_are_not_taken_over(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    _Drawn(open_dataset("sample:200")).test(1, ["vse"], file)
    stale = json.loads(file.read_text())
    stale["methods"][1]["options"]["optimizer.lr"] *= 2
    file.write_text(json.dumps(stale))
    again = _Drawn(open_dataset("sample:200"))
    again.test(1, ["vse"], file)
    assert again.trained == [("vse", 1)]
    with pytest.raises(InputError, match="dataset"):
        _Drawn(open_dataset("sample:300")).test(1, ["vse"], file)


def test_an_option_that_is_new_since_must_have_its_default(tmp_path: Path) -> None:
    """One new option must not cost half an hour; nor may runs without it pass for runs with it."""
    dataset, file = open_dataset("sample:200"), tmp_path / "report.json"
    _Drawn(dataset).test(1, ["best", "hf-icma-small"], file)
    older = json.loads(file.read_text())
    for method in older["methods"]:
        del method["options"]["optimizer.name"]
    file.write_text(json.dumps(older))
    again = _Drawn(dataset)
    again.test(1, ["best", "hf-icma-small"], file)
    assert again.trained == [("hf-icma-small", 1)], "it alone names an optimizer"


def test_a_mistyped_method_is_told() -> None:
    with pytest.raises(InputError, match="vsee"):
        _Drawn(open_dataset("sample:200")).test(1, ["vsee"])
