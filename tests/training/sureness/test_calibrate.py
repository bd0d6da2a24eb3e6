"""A run is calibrated by models that have not seen the pairs that they are judged by."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from hficma.artifacts.manifest import read_manifest
from hficma.artifacts.workspace import Workspace
from hficma.data.dataset import open_dataset, positions
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.bundle.sureness_file import read_sureness
from hficma.errors import ArtifactError, InputError
from hficma.export import export_run
from hficma.model import load_model
from hficma.progress import Progress
from hficma.training import calibrate
from hficma.training.encoding import encode_positions
from hficma.training.evaluation import dataset_of
from hficma.training.runs.run import RunDirectory
from hficma.training.scoring import score_tables
from hficma.training.sureness.calibrate import read_scores
from hficma.training.sureness.cross_fitting import balanced_folds
from tests.training.conftest import DATA


@pytest.fixture(scope="module")
def run(reference: Path, workspace: Workspace) -> Path:
    """A run that was calibrated in two folds."""
    path = Path(shutil.copytree(reference, workspace.home / "runs" / "calibrated"))
    calibrate(path, folds=2, workspace=workspace)
    return path


def test_a_run_keeps_its_calibration(run: Path) -> None:
    """What was written is what was fitted, on the scores beside it, and the run is whole."""
    facts = read_sureness(run, read_manifest(run, kind="run"))
    scores = read_scores(run)
    assert facts is not None
    rows = positions(open_dataset(DATA), ("train", "val"), with_photo=True)
    assert facts.pairs == len(scores.folds) == len(rows)
    assert facts.folds == 2
    assert scores.image.shape == (len(rows), len(rows))
    assert np.isfinite(scores.image).all()
    assert np.isfinite(scores.recipe).all()
    load_model(run)  # its weights are still named


def test_pairs_are_scored_by_models_that_did_not_see_them(run: Path) -> None:
    """The run's own model has learnt from every pair, and would look surer than it is; a fold's
    model is no copy of it, and scores all of the fold's queries, in both directions."""
    scores = read_scores(run)
    directory = RunDirectory.open(run)
    dataset = dataset_of(directory, None, Progress())
    rows = positions(dataset, ("train", "val"), with_photo=True)
    encoded = encode_positions(load_model(run), dataset, rows, Progress())
    own = score_tables(load_model(run), encoded.image, encoded.recipe).total
    for fold in range(2):
        held_out = scores.folds == fold
        assert np.abs(scores.image[held_out] - own[held_out]).max() > 0.01
        block = np.ix_(held_out, held_out)
        # Both are new to the same model: the two directions of one table.
        assert np.abs(scores.image[block] - scores.recipe[block].T).max() < 2e-3
    apart = np.ix_(scores.folds == 0, scores.folds == 1)
    assert np.abs(scores.image[apart] - scores.recipe.T[apart]).max() > 0.01


def test_a_bundle_carries_the_calibration_of_its_run(run: Path, tmp_path: Path) -> None:
    """The engine asks the bundle: without it, no answer would say how sure it is."""
    bundle = export_run(run, tmp_path / "bundle", runtimes=("onnxruntime",), queries=0)
    with Bundle.open(bundle) as opened:
        assert opened.sureness == read_sureness(run, read_manifest(run, kind="run"))


def test_a_run_that_was_not_calibrated_says_so(reference: Path) -> None:
    """Its scores would be looked for in vain."""
    assert read_sureness(reference, read_manifest(reference, kind="run")) is None
    with pytest.raises(ArtifactError, match="not calibrated"):
        read_scores(reference)


def test_one_fold_is_refused(reference: Path, workspace: Workspace) -> None:
    """Its model would have learnt from nothing."""
    with pytest.raises(InputError, match="two folds or more"):
        calibrate(reference, folds=1, workspace=workspace)


def test_groups_stay_together_in_folds_of_like_sizes() -> None:
    """Two photos of one dish in two folds would let a model see what it is judged by."""
    groups = [[0, 5, 9], [1], [2, 3], [4], [6, 7], [8], [10, 11]]
    folds = balanced_folds(groups, 3)
    assert all(len(set(folds[group])) == 1 for group in groups)
    assert np.bincount(folds).max() - np.bincount(folds).min() <= 2
