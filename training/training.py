"""Trains a model: from options and a dataset to a run."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hficma.artifacts.workspace import Workspace
from hficma.data.dataset import Dataset, open_dataset
from hficma.data.partitions import Partitioned
from hficma.errors import ArtifactError, InputError, MissingDependencyError
from hficma.progress import Progress

from .config.option_checks import (
    check_other_recipes,
    check_photos,
    check_validation,
    uses_classes,
)
from .config.option_files import flatten, load_options, merge, parse_override
from .config.option_values import parse_options
from .config.options import Options
from .data.dish_classes import dish_classes
from .data.keep_out import HoldOut, keep_out
from .data.loader.limits import with_cache_limit
from .ensemble import join_members
from .parallel import distributed
from .parallel.batch_normalization import share_statistics
from .parallel.device import pick_device
from .parallel.processes import Devices, count_devices, run_on_devices
from .runs.beginning import begin
from .runs.curves import write_curves
from .runs.run import RunDirectory
from .trainer import Trainer

DEFAULT_PRESET = "hf-icma-small"
DEFAULT_DATA = "sample:20000"
logger = logging.getLogger("hficma")

RESUMABLE = (
    "trainer.epochs", "trainer.device", "trainer.compile", "trainer.save_minutes", "loader.workers",
)  # fmt: skip
"""Options that may change when a run goes on."""


def train(
    preset: str = DEFAULT_PRESET,
    overrides: Sequence[str] = (),
    *,
    data: str | None = None,
    run: Path | None = None,
    resume: bool = False,
    hold_out: str | None = None,
    devices: Devices | None = None,
    workspace: Workspace | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train a model and leave a run.

    Args:
        preset: a preset's name or a YAML file.
        overrides: `section.name=value`, on top of the preset.
        data: what `open_dataset` takes; None takes the sample.
        run: where the run goes; None takes a new name in the workspace. With `resume`, the run
            to go on with; None takes the newest.
        resume: go on with a run from its last checkpoint.
        hold_out: pairs to keep out of training as test pairs, `10%` or their number, where the
            data name none.
        devices: learn on so many GPUs of this machine, or on `all` of them, in a process each;
            several learn what one learns, sooner. On `trainer.device=cpu`, so many processes.
        workspace: for defaults and caches.
        progress: receives stages, steps and notes.

    Returns:
        the run's path.

    Raises:
        InputError: an option or the dataset cannot be used.
        ArtifactError: the run exists already, or cannot be resumed.
        ProcessKilledError: one of several processes was killed, which ended them all.
    """
    workspace = workspace or Workspace.default()
    progress = progress if progress is not None and distributed.is_first() else Progress()
    if resume and hold_out is not None:
        raise InputError("hold_out: a run that goes on keeps the pairs out that it began without")
    test_pairs = None if hold_out is None else HoldOut.parse(hold_out)
    directory = None
    if resume:
        run = run or workspace.newest("run")
        options, directory = _resumed(run, overrides)
    else:
        run = run or workspace.new("run", Path(preset).stem)
        options = load_options(preset, overrides)
    if devices is not None and (count := count_devices(devices, options.trainer.device)) > 1:
        arguments = {
            "preset": preset, "overrides": tuple(overrides), "data": data, "run": run,
            "resume": resume, "hold_out": hold_out, "workspace": workspace,
        }  # fmt: skip
        run_on_devices(train, arguments, devices=count, progress=progress)
        return run
    recorded = DEFAULT_DATA if directory is None else directory.facts["dataset"]
    dataset = open_dataset(data or recorded, on_bad=progress.bad)
    return train_on(
        options, dataset, run, cache=workspace.cache, progress=progress, directory=directory,
        hold_out=test_pairs,
    )  # fmt: skip


def _resumed(path: Path, overrides: Sequence[str]) -> tuple[Options, RunDirectory]:
    """Return the options of a run that goes on, and the run.

    Args:
        path: of the run.
        overrides: of what may change.

    Raises:
        InputError: the run cannot go on, or an option cannot change.
        ArtifactError: it is no run, or damaged.
    """
    directory = RunDirectory.open(path)
    if directory.facts["model"].get("members", 1) > 1:
        raise InputError(
            f"{path}: is an ensemble, whose members were trained to their end; train another run"
        )
    if directory.facts["dataset"] is None:
        raise InputError(
            f"{path}: was converted, and training needs more than weights to go on; "
            "evaluate, export or search with it, or train another run"
        )
    tree = directory.options
    if tree["text"].get("extra"):
        raise InputError(
            f"{path}: learns from recipes without photos (text.extra), which this version does not "
            "read; go on with the version that began it"
        )
    for override in overrides:
        change = parse_override(override)
        for name in flatten(change):
            if name not in RESUMABLE:
                raise InputError(
                    f"{name}: cannot change when a run goes on; only {', '.join(RESUMABLE)} can"
                )
        tree = merge(tree, change)
    return parse_options(tree), directory


def train_on(
    options: Options,
    dataset: Dataset,
    path: Path,
    *,
    cache: Path,
    progress: Progress,
    directory: RunDirectory | None = None,
    hold_out: HoldOut | None = None,
) -> Path:
    """Train on a dataset that is open already; an ensemble member after member.

    Args:
        options: of the run.
        dataset: what to learn from; its partitions say which pairs.
        path: where the run goes.
        cache: the workspace's cache folder.
        progress: receives stages, steps and notes.
        directory: the run to go on with, or None.
        hold_out: test pairs to keep out, where the dataset names none.

    Returns:
        the run's path.

    Raises:
        InputError: an option or the dataset cannot be used.
        ArtifactError: the run exists already, or cannot be written.
        TrainingError: too many steps had a loss or gradient that is not finite.
    """
    device = pick_device(options.trainer.device)
    distributed.start(device)
    if options.model.members == 1:
        return _train_model(
            options, dataset, path, device, cache=cache, progress=progress, directory=directory,
            hold_out=hold_out, split_seed=options.trainer.seed,
        )  # fmt: skip
    assert directory is None  # `_resumed` refuses it
    if distributed.world_size() > 1:
        raise InputError(
            f"model.members={options.model.members}: an ensemble's members are small, and are "
            "trained on one device; leave devices out"
        )
    seed, count = options.trainer.seed, options.model.members
    validate = options.trainer.validation_pairs > 0
    partitions = keep_out(dataset, hold_out, seed, progress.note, cache=cache, validate=validate)
    dataset = Partitioned(dataset, partitions) if partitions else dataset
    member_options = replace(options, model=replace(options.model, members=1))
    if path.exists():
        raise ArtifactError(f"{path}: exists already; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        runs = [Path(folder) / f"member-{number}" for number in range(1, count + 1)]
        for number, run in enumerate(runs):
            progress.note(f"member {number + 1} of {count}")
            trainer = replace(options.trainer, seed=seed + number)
            _train_model(
                replace(member_options, trainer=trainer), dataset, run, device, cache=cache,
                progress=progress, split_seed=seed,
            )  # fmt: skip
        return join_members(runs, path, options, partitions=partitions)


def _train_model(
    options: Options,
    dataset: Dataset,
    path: Path,
    device: torch.device,
    *,
    cache: Path,
    progress: Progress,
    split_seed: int,
    directory: RunDirectory | None = None,
    hold_out: HoldOut | None = None,
) -> Path:
    """Train one model; see `train_on`.

    Args:
        device: that this process trains on.
        split_seed: draws what all members of an ensemble share: which pairs are kept out and
            validated, and what encoders begin with; of a single model its own seed.
    """
    check_photos(options)
    check_validation(options)
    check_other_recipes(options)
    checkpoint = directory.load_checkpoint() if directory is not None else None
    if checkpoint is None:
        # One process's view of the disk: by another's, its photos might not be cached.
        options = distributed.from_first(with_cache_limit(options, cache))
    # Words, sentences and photos are read into the cache by one process, and then by the others
    # from there.
    with distributed.first():
        options, model, pairs, directory = begin(
            options, dataset, path, device, directory, checkpoint, cache=cache, progress=progress,
            split_seed=split_seed, hold_out=hold_out,
        )  # fmt: skip
    if distributed.world_size() > 1:
        share_statistics(model)
    classes = np.zeros(len(pairs.recipes), dtype=np.int64)
    if uses_classes(options):
        classes = dish_classes(pairs.recipes, pairs.train)
    trainer = Trainer(options, model, pairs, classes, directory, progress)
    if checkpoint is not None:
        trainer.restore(*checkpoint)
    with contextlib.nullcontext() if directory is None else directory.writing():
        trainer.fit()
        if directory is not None:
            _draw_curves(path)
    return path


def _draw_curves(path: Path) -> None:
    """Draw a run's curves; a training of hours must not fail because of its pictures."""
    try:
        write_curves([path])
    except MissingDependencyError as error:
        logger.warning("%s: no curves.html (%s)", path, error)
