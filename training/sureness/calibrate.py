"""Calibrates a run: learns what its model's scores say of how sure an answer is.

    run ──▶ a training a fold ──▶ scores of unseen pairs ──▶ fitted ──▶ sureness.json
                                  sureness.safetensors

The scores stay in the run, for the benchmark that judges the fit. Fitted on models that learnt from
fewer pairs, the calibration is of the run's own a little too careful.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from hficma.artifacts.manifest import read_manifest, verified_file
from hficma.artifacts.workspace import Workspace
from hficma.errors import ArtifactError, InputError
from hficma.progress import Progress
from hficma.sureness import SURENESS_FILE, SurenessFacts
from hficma.text.word_vectors import read_tensors

from ..config.option_values import parse_options
from ..evaluation import dataset_of
from ..parallel.distributed import processes
from ..runs.run import RunDirectory
from .cross_fitting import FOLDS, CrossFit, cross_fit
from .fitting import fit_calibration

SCORES_FILE = "sureness.safetensors"
"""In a run: `image` and `recipe` (P, P) float16, `folds` (P,) int64."""


def calibrate(
    run: Path,
    data: str | None = None,
    *,
    folds: int = FOLDS,
    workspace: Workspace | None = None,
    progress: Progress | None = None,
) -> SurenessFacts:
    """Learn how sure answers of a run's model are, and write it into the run.

    Takes as long as `folds` trainings. Bundles that are exported afterwards carry it.

    Args:
        run: its directory.
        data: the pairs that it was trained on, where they are no longer where they were.
        folds: models to train.
        workspace: for caches.
        progress: receives stages and notes.

    Returns:
        what was written.

    Raises:
        InputError: the run was converted, or its pairs are too few.
        ArtifactError: the run is damaged or cannot be written.
    """
    workspace, progress = workspace or Workspace.default(), progress or Progress()
    if processes() > 1:
        raise InputError(f"{run}: is calibrated by one process, on one device")
    directory = RunDirectory.open(run)
    dataset = dataset_of(directory, data, progress)
    options = parse_options(directory.options)
    scores = cross_fit(options, dataset, folds=folds, cache=workspace.cache, progress=progress)
    facts = fit(scores)
    save_calibration(directory, scores, facts)
    return facts


def fit(scores: CrossFit) -> SurenessFacts:
    """Return what scores of unseen pairs say, for queries of both roles."""
    return SurenessFacts(
        image=fit_calibration(scores.queries(scores.image)),
        recipe=fit_calibration(scores.queries(scores.recipe)),
        pairs=len(scores.folds),
        folds=len(np.unique(scores.folds)),
    )


def save_calibration(run: RunDirectory, scores: CrossFit, facts: SurenessFacts) -> None:
    """Write a calibration, and the scores that it was fitted on, into a run.

    Args:
        run: an earlier calibration of it is replaced.
        scores: stored in half precision: a thousandth of a cosine says nothing of chances.
        facts: fitted on them.
    """
    from safetensors.numpy import save

    # In rows, or safetensors would write a transposed table as it lies in memory.
    tensors = {
        "image": np.ascontiguousarray(scores.image, np.float16),
        "recipe": np.ascontiguousarray(scores.recipe, np.float16),
        "folds": np.ascontiguousarray(scores.folds, np.int64),
    }
    run.add_files(
        {
            SURENESS_FILE: json.dumps(facts.to_json(), indent=1).encode() + b"\n",
            SCORES_FILE: save(tensors),
        }
    )


def read_scores(run: Path) -> CrossFit:
    """Read the scores of unseen pairs that a calibrated run holds.

    Raises:
        ArtifactError: it was not calibrated, or the file is damaged.
    """
    manifest = read_manifest(run, kind="run")
    if SCORES_FILE not in manifest.files:
        raise ArtifactError(
            f"{run}: was not calibrated, and holds no scores of pairs that its models had not "
            "seen; calibrate it first"
        )
    path = verified_file(run, manifest, SCORES_FILE)
    tensors = read_tensors(path)
    try:
        image, recipe, folds = (tensors[name] for name in CrossFit._fields)
    except KeyError as error:
        raise ArtifactError(f"{path}: is damaged (it has no {error})") from error
    if not image.shape == recipe.shape == (len(folds), len(folds)):
        raise ArtifactError(f"{path}: is damaged (its shapes do not fit each other)")
    return CrossFit(image.astype(np.float32), recipe.astype(np.float32), folds)
