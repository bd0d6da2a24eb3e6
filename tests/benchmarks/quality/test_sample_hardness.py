"""A trained run beside the sample's two hardness checks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hficma.artifacts.workspace import Workspace
from hficma.benchmarks.quality import sample_hardness
from hficma.benchmarks.quality.sample_hardness import CCA, RUN, SHUFFLED
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
