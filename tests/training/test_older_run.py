"""A run that an older release wrote: it opens as the same model, and goes on as it would have.

The fixture is the run of a release from before the words changed (two epochs of Muon and Adam,
a running mean of the weights, a dish-class head), and what that release itself made of it: the
model's id, and the losses and some weights of two more epochs. Its image encoder's weights repeat,
so that the archive is small.
"""

from __future__ import annotations

import json
import math
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hficma.artifacts.manifest import read_manifest, sha256, write_manifest
from hficma.artifacts.workspace import Workspace
from hficma.errors import InputError
from hficma.model import load_model
from hficma.training import evaluate, train
from hficma.training.comparison import compare
from hficma.training.config.option_values import parse_options, to_tree
from hficma.training.runs.log import read_log
from hficma.training.runs.run import RunDirectory

FIXTURES = Path(__file__).parents[1] / "fixtures" / "older"
RELEASE: dict[str, Any] = json.loads((FIXTURES / "run.json").read_text())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of the older run."""
    with tarfile.open(FIXTURES / "run.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "run"


def test_an_older_run_opens_as_the_same_model(run: Path) -> None:
    """Another id would make its indexes another model's: each would have to be built again."""
    assert load_model(run).model_id == RELEASE["model_id"]


def test_an_older_run_goes_on_as_the_older_release_would(run: Path, workspace: Workspace) -> None:
    """An option, a moment or a mean that is not found again would start that part anew."""
    train(run=run, resume=True, overrides=["trainer.epochs=4"], workspace=workspace)
    epochs = [record for record in read_log(run) if record["kind"] == "epoch"]
    assert [record["epoch"] for record in epochs] == [1, 2, 3, 4]
    assert read_manifest(run, kind="run").facts["last"]["epoch"] == 4
    losses = [record["train"]["loss"] for record in epochs]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses == pytest.approx([record["loss"] for record in RELEASE["epochs"]], rel=1e-4)
    # The run keeps the running mean, which must go on where the older release left it.
    weights = load_model(run, weights="last").state_dict()
    for name, expected in RELEASE["weights"].items():
        assert weights[name].flatten()[-3:].tolist() == pytest.approx(expected, rel=1e-3), name


def test_an_older_run_is_compared_by_the_names_of_today(run: Path, tmp_path: Path) -> None:
    """An option that was renamed or added since would look as if it told the runs apart."""
    newer = tmp_path / "newer"
    shutil.copytree(run, newer)
    assert "backbone" in json.loads((run / "options.json").read_text())["model"]
    options = to_tree(parse_options(RunDirectory.open(run).options))
    options["optimizer"]["lr"] = 0.5
    rewrite_options(newer, options)
    assert set(compare([run, newer]).differences) == {"optimizer.lr"}


def test_an_older_run_is_evaluated(run: Path) -> None:
    """Figures of a run made before an update can be compared with those made after it."""
    evaluation = evaluate(run, setup="all", device="cpu")
    assert evaluation.items == 4
    assert evaluation.dataset == "sample:100"


def test_an_older_run_that_used_an_option_that_is_gone_says_so(
    run: Path, workspace: Workspace
) -> None:
    """Going on without its further negatives would be another training, and nobody would see."""
    options = json.loads((run / "options.json").read_text())
    options["text"] |= {"extra": "recipes.jsonl", "extra_count": 8}
    rewrite_options(run, options)
    with pytest.raises(InputError, match=r"text\.extra"):
        train(run=run, resume=True, workspace=workspace)


def rewrite_options(run: Path, options: dict[str, Any]) -> None:
    file = run / "options.json"
    file.write_text(json.dumps(options))
    manifest = read_manifest(run, kind="run")
    write_manifest(run, replace(manifest, files=manifest.files | {"options.json": sha256(file)}))
