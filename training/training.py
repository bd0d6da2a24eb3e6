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
from hficma.data.dataset import Dataset, open_dataset, positions
from hficma.data.partitions import Partitioned, read_partitions
from hficma.errors import ArtifactError, InputError, MissingDependencyError
from hficma.model import Model, build_model
from hficma.model.encoders.image.resolution import resolve_image_encoder
from hficma.progress import Progress
from hficma.text.word_vectors import WordVectors

from . import distributed
from .config.option_checks import (
    check_image_encoder,
    check_other_recipes,
    check_validation,
    uses_classes,
)
from .config.option_files import flatten, load_options, merge, parse_override
from .config.option_values import parse_options, to_tree
from .config.options import Options
from .data.dish_classes import dish_classes
from .data.feature_means import fill_feature_means
from .data.keep_out import HoldOut, keep_out
from .data.neighbours import find_neighbours
from .data.other_recipes import OtherRecipes
from .data.pairs import Pairs, in_order, split
from .device import pick_device
from .ensemble import join_members
from .runs.curves import write_curves
from .runs.environment import environment
from .runs.run import RunDirectory
from .text.head_pretraining import pretrain_recipe_head
from .text.pretrained_encoder import with_text_architecture
from .text.text_vectors import pretrain_sentence_encoder, word_vectors
from .trainer import Trainer

DEFAULT_PRESET = "hf-icma-small"
DEFAULT_DATA = "sample:20000"
RANDOM = "random"
"""Value of `trunk.weights` for an image encoder of random weights, whatever its schedule."""
logger = logging.getLogger("hficma")

RESUMABLE = ("trainer.epochs", "trainer.device")
"""Options that may change when a run goes on."""


def train(
    preset: str = DEFAULT_PRESET,
    overrides: Sequence[str] = (),
    *,
    data: str | None = None,
    run: Path | None = None,
    resume: bool = False,
    hold_out: str | None = None,
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
        workspace: for defaults and caches.
        progress: receives stages, steps and notes.

    Returns:
        the run's path.

    Raises:
        InputError: an option or the dataset cannot be used.
        ArtifactError: the run exists already, or cannot be resumed.
    """
    workspace, progress = workspace or Workspace.default(), progress or Progress()
    if resume and hold_out is not None:
        raise InputError("hold_out: a run that goes on keeps the pairs out that it began without")
    if resume:
        return _resume(run or workspace.newest("run"), overrides, data, workspace, progress)
    options = load_options(preset, overrides)
    dataset = open_dataset(data or DEFAULT_DATA, on_bad=progress.bad)
    path = run or workspace.new("run", Path(preset).stem)
    return train_on(
        options, dataset, path, cache=workspace.cache, progress=progress,
        hold_out=None if hold_out is None else HoldOut.parse(hold_out),
    )  # fmt: skip


def _resume(
    path: Path,
    overrides: Sequence[str],
    data: str | None,
    workspace: Workspace,
    progress: Progress,
) -> Path:
    """Resume a run; see `train`."""
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
    dataset = open_dataset(data or directory.facts["dataset"], on_bad=progress.bad)
    options = parse_options(tree)
    return train_on(
        options, dataset, path, directory=directory, cache=workspace.cache, progress=progress
    )


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
    if options.model.members == 1:
        return _train_model(
            options, dataset, path, cache=cache, progress=progress, directory=directory,
            hold_out=hold_out, split_seed=options.trainer.seed,
        )  # fmt: skip
    assert directory is None  # `_resume` refuses it
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
                replace(member_options, trainer=trainer), dataset, run, cache=cache,
                progress=progress, split_seed=seed,
            )  # fmt: skip
        return join_members(runs, path, options, partitions=partitions)


def _train_model(
    options: Options,
    dataset: Dataset,
    path: Path,
    *,
    cache: Path,
    progress: Progress,
    split_seed: int,
    directory: RunDirectory | None = None,
    hold_out: HoldOut | None = None,
) -> Path:
    """Train one model; see `train_on`.

    Args:
        split_seed: draws what all members of an ensemble share: which pairs are kept out and
            validated, and what encoders begin with; of a single model its own seed.
    """
    device = pick_device(options.trainer.device)
    distributed.start(device)
    seed = options.trainer.seed
    check_validation(options)
    check_other_recipes(options)
    checkpoint = directory.load_checkpoint() if directory is not None else None
    weights = None
    if checkpoint is None:
        options, weights = _resolved(options)
        check_image_encoder(options, weights)
    validate = options.trainer.validation_pairs > 0
    if directory is None:
        partitions = keep_out(
            dataset, hold_out, split_seed, progress.note, cache=cache, validate=validate
        )
    else:
        partitions = read_partitions(directory.path)
    dataset = Partitioned(dataset, partitions) if partitions else dataset
    train_rows, validation_rows = split(dataset, split_seed, progress.note, validate=validate)
    if directory is not None and checkpoint is not None:
        vectors = _no_vectors(directory, options)
    else:
        recipes = [dataset.recipe(int(position)) for position in train_rows]
        dim = options.model.word_dim
        vectors = word_vectors(
            options.text.vectors, recipes, dim=dim, seed=split_seed, cache=cache, progress=progress
        )
    folder = options.model.text.encoder
    if checkpoint is None:
        options, text_tokenizer = with_text_architecture(options)
    else:
        assert directory is not None
        text_tokenizer = directory.text_tokenizer
    model = build_model(
        options.model,
        vectors,
        backbone_weights=weights,
        text_tokenizer=text_tokenizer,
        text_weights=Path(folder) if folder and checkpoint is None else None,
        seed=split_seed,
        heads_seed=None if seed == split_seed else seed,
    ).to(device)
    # Photos come channels last; an image encoder laid out alike is a fifth faster on a CPU.
    model.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if checkpoint is None:
        options = _with_sentence_encoder(options, model, vectors, cache, progress)
    else:
        model.load_state_dict(checkpoint[0])
    check_other_recipes(options)  # again: what there is no source for is trained with the rest
    others = None
    if options.text.others is not None and (checkpoint is None or options.text.neighbours):
        others = OtherRecipes(Path(options.text.others), dataset, cache)
    neighbours = None
    if others is not None and options.text.neighbours:
        recipes = [dataset.recipe(int(row)) for row in in_order(train_rows, validation_rows)]
        neighbours = find_neighbours(model, recipes, others, progress)
    pairs = Pairs(dataset, train_rows, validation_rows, model, options, cache, progress, neighbours)
    if distributed.rank() != 0:
        directory = None  # also of a run that goes on: one process writes
    elif directory is None:
        directory = RunDirectory.create(
            path,
            made_by="hficma train",
            options=to_tree(options),
            environment=environment(device),
            vocabulary=vectors.vocabulary,
            text_tokenizer=text_tokenizer,
            facts={
                "model": options.model.to_json(),
                "dataset": dataset.name,
                "training_pairs": len(train_rows),
                "validation_pairs": len(validation_rows),
                "test_pairs": len(positions(dataset, ("test",), with_photo=True)),
                "best": None,
                "last": None,
            },
            partitions=partitions,
        )
    # Sentences that nothing trains have the same vectors in every epoch.
    if not options.text.tune_sentences:
        pairs.texts.encode_sentences(model)
    if (cut := pairs.texts.texts_cut) and text_tokenizer is not None:
        longest = text_tokenizer.architecture.longest
        progress.note(f"{cut:,} texts are longer than the {longest} tokens that are read: cut off")
    if not options.text.tune_encoder:
        progress.stage("texts", pairs.texts.distinct_texts)
        pairs.texts.encode_texts(model, advance=progress.advance)
    if checkpoint is None:
        fill_feature_means(model, pairs, cached=options.trunk.schedule != "tuned")
        if others is not None and options.text.pretrain_steps:
            pretrain_recipe_head(
                model, pairs, others, steps=options.text.pretrain_steps, cache=cache,
                progress=progress,
            )  # fmt: skip
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


def _resolved(options: Options) -> tuple[Options, str | Path | None]:
    """Return options with the image encoder's architecture and input, and its first weights."""
    weights = None if options.trunk.weights == RANDOM else options.trunk.weights
    encoder = resolve_image_encoder(options.model.image, weights)
    model = replace(options.model, image=encoder.config)
    return replace(options, model=model), encoder.weights


def _no_vectors(directory: RunDirectory, options: Options) -> WordVectors:
    """Return zeros for the words of a run, whose checkpoint brings their vectors."""
    vocabulary = directory.vocabulary
    table = np.zeros((vocabulary.table_rows, options.model.word_dim), dtype=np.float32)
    return WordVectors(vocabulary, table)


def _draw_curves(path: Path) -> None:
    """Draw a run's curves; a training of hours must not fail because of its pictures."""
    try:
        write_curves([path])
    except MissingDependencyError as error:
        logger.warning("%s: no curves.html (%s)", path, error)


def _with_sentence_encoder(
    options: Options, model: Model, vectors: WordVectors, cache: Path, progress: Progress
) -> Options:
    """Give the model the sentence encoder of its source; without one it is trained with the rest.

    Recipes train an encoder of their own only where it is to stay as it is: one that is trained
    with the rest anyway need not wait for it.

    Returns:
        the options, with `text.tune_sentences` on where there is no encoder to start from.
    """
    text = options.text
    if options.model.sentence != "gru":
        return options
    source = text.vectors
    if source is not None and text.tune_sentences and Path(source).is_file():
        source = None
    if source is not None and pretrain_sentence_encoder(
        source, model, vectors, cache=cache, progress=progress
    ):
        return options
    if not text.tune_sentences:
        progress.note("text.vectors holds no trained sentence encoder: it is trained with the rest")
    return replace(options, text=replace(text, tune_sentences=True))
