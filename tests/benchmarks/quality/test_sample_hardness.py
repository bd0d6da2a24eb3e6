"""A trained run beside the sample's two hardness checks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hficma.artifacts.workspace import Workspace
from hficma.benchmarks.quality import sample_hardness
from hficma.benchmarks.quality.cca import correlate
from hficma.benchmarks.quality.sample_hardness import (
    CCA,
    RUN,
    SHUFFLED,
    cca_baseline,
    shuffled_table_check,
)
from hficma.data.sample import SampleDataset
from hficma.errors import InputError
from hficma.metrics import DIRECTIONS
from hficma.training import evaluate, train
from tests.training.conftest import SMALL


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for two epochs on a small sample."""
    home = tmp_path_factory.mktemp("home")
    return train(
        "hf-icma-small", SMALL, data="sample:200", run=home / "run", workspace=Workspace(home)
    )


def test_a_run_stands_beside_both_checks(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recall on synthetic dishes means nothing unless colours alone do worse."""
    out = tmp_path / "out.json"
    sample_hardness.main(run=run, data=None, train=40, bag=10, json_file=out)
    found = json.loads(out.read_text())
    assert list(found["rows"]) == ["chance", CCA, RUN, SHUFFLED]
    assert (found["data"], found["items"]) == ("sample:200", 10)
    assert found["environment"]["processor"]
    for row in found["rows"].values():
        for direction in DIRECTIONS:
            assert 0 <= row[direction]["R@1"] <= row[direction]["R@10"] <= 100
    printed = capsys.readouterr().out
    for name in (CCA, RUN, SHUFFLED):
        assert name in printed


def test_the_runs_row_is_what_evaluation_finds(run: Path) -> None:
    """Two commands would give two recalls of one run."""
    evaluation = evaluate(run, "sample:200")
    found = sample_hardness.measure(None, run, train=40, bag=evaluation.bag_size)
    for direction in DIRECTIONS:
        for figure, (value, _) in evaluation.total[direction].items():
            assert found["rows"][RUN][direction][figure] == pytest.approx(value)


def test_a_run_of_real_photos_has_no_such_checks() -> None:
    with pytest.raises(InputError, match="sample:SIZE"):
        sample_hardness.measure("recipes.jsonl", None)


def test_cca_finds_a_linear_relation() -> None:
    """A baseline that could not find anything would make any sample look hard."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(600, 8))
    one, two = (hidden @ rng.normal(size=(8, 20)) for _ in range(2))
    scores = correlate(one[:500], two[:500], 0.001)(one[500:], two[500:])
    assert (scores.argmax(axis=1) == np.arange(100)).all()


def test_the_baseline_reports_both_directions() -> None:
    found = cca_baseline(SampleDataset(400), train=60, bag=20)
    assert found["items"] == 20
    for direction in ("image_to_recipe", "recipe_to_image"):
        assert set(found[direction]) == {"medR", "R@1", "R@5", "R@10"}


def test_the_baseline_refuses_a_sample_too_small_for_its_bag() -> None:
    with pytest.raises(InputError, match="test items"):
        cca_baseline(SampleDataset(100), bag=1000)


def test_the_shuffled_check_shows_the_same_recipes_to_the_model() -> None:
    """Only the photos may differ; and a model that cannot choose gets no credit for ties."""
    seen = []

    def constant(photos, recipes):
        seen.append((len(photos), [recipe.id for recipe in recipes]))
        return np.zeros((len(photos), len(recipes)))

    found = shuffled_table_check(SampleDataset(200), constant, bag=5)
    assert seen[0] == seen[1]
    assert found[RUN]["image_to_recipe"] == {
        "medR": 5.0,
        "R@1": 0.0,
        "R@5": 100.0,
        "R@10": 100.0,
    }
