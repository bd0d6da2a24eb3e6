"""Builds what a training begins with: its model, its pairs and the run that it writes to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hficma.data.dataset import Dataset, positions
from hficma.data.partitions import Partitioned, read_partitions
from hficma.data.subset import SubsetRecipes
from hficma.model import Model
from hficma.progress import Progress
from hficma.types import Positions

from ..config.option_checks import check_image_encoder, check_other_recipes
from ..config.option_values import to_tree
from ..config.options import Options
from ..data.feature_means import fill_feature_means
from ..data.keep_out import HoldOut, keep_out
from ..data.neighbours import Neighbours, find_neighbours
from ..data.other_recipes import OtherRecipes
from ..data.pairs.pairs import Pairs
from ..data.pairs.split import in_order, split
from ..data.photo_reading import note_enlarged_photos
from ..parallel import distributed
from ..text.head_pretraining import pretrain_recipe_head
from .environment import environment
from .first_model import new_model, saved_model, with_image_encoder
from .run import RunDirectory, State


class Beginning(NamedTuple):
    """What a training begins with."""

    options: Options
    """With what the model came to."""
    model: Model
    """On its device."""
    pairs: Pairs
    """What it learns from."""
    directory: RunDirectory | None
    """Of the run; None in processes that write nothing."""


def begin(
    options: Options,
    dataset: Dataset,
    path: Path,
    device: torch.device,
    directory: RunDirectory | None,
    checkpoint: tuple[Mapping[str, Tensor], State] | None,
    *,
    cache: Path,
    progress: Progress,
    split_seed: int,
    hold_out: HoldOut | None,
) -> Beginning:
    """Build the model and its pairs, for a new run or for one that goes on.

    Args:
        options: of the run.
        dataset: what to learn from.
        path: where the run goes.
        device: that this process trains on.
        directory: the run to go on with, or None.
        checkpoint: weights and state of that run, or None.
        cache: the workspace's cache folder.
        progress: receives stages, steps and notes.
        split_seed: draws which pairs are kept out and validated, and what encoders begin with.
        hold_out: test pairs to keep out, where the dataset names none.

    Raises:
        InputError: an option or the dataset cannot be used.
        ArtifactError: the run exists already, or cannot be written.
    """
    weights = None
    if checkpoint is None:
        options, weights = with_image_encoder(options)
        check_image_encoder(options, weights)
    parts = _parts(options, dataset, directory, hold_out, split_seed, cache, progress)
    note_enlarged_photos(dataset, options, progress.note)
    if checkpoint is None:
        recipes = SubsetRecipes(parts.dataset, parts.train)
        options, model = new_model(
            options, recipes, weights, device, split_seed=split_seed, cache=cache, progress=progress
        )
    else:
        assert directory is not None
        model = saved_model(options, directory, checkpoint[0], device)
    check_other_recipes(options)  # again: what there is no source for is trained with the rest
    others, neighbours = _other_recipes(
        options, parts, model, is_new=checkpoint is None, cache=cache, progress=progress
    )
    pairs = Pairs(
        parts.dataset, parts.train, parts.validation, model, options, cache, progress, neighbours
    )
    if not distributed.is_first():
        directory = None  # also of a run that goes on: one process writes
    elif directory is None:
        directory = _new_directory(path, options, parts, model)
    _encode_texts(options, model, pairs, progress)
    if checkpoint is None:
        fill_feature_means(model, pairs, cached=options.trunk.schedule != "tuned")
        if others is not None and options.text.pretrain_steps:
            pretrain_recipe_head(
                model, pairs, others, steps=options.text.pretrain_steps, cache=cache,
                progress=progress,
            )  # fmt: skip
    return Beginning(options, model, pairs, directory)


class _Parts(NamedTuple):
    """A dataset, parted into the pairs that are learnt from and those that are not."""

    dataset: Dataset
    """With the partitions that the run keeps."""
    partitions: Mapping[str, str] | None
    """By recipe id, where the run chose them and the dataset does not name them."""
    train: Positions
    """(P,) positions in the dataset, ascending."""
    validation: Positions
    """Likewise."""


def _parts(
    options: Options,
    dataset: Dataset,
    directory: RunDirectory | None,
    hold_out: HoldOut | None,
    seed: int,
    cache: Path,
    progress: Progress,
) -> _Parts:
    """Choose the pairs of a new run, or read which those of a run that goes on are."""
    validate = options.trainer.validation_pairs > 0
    if directory is None:
        partitions = keep_out(
            dataset, hold_out, seed, progress.note, cache=cache, validate=validate
        )
    else:
        partitions = read_partitions(directory.path)
    dataset = Partitioned(dataset, partitions) if partitions else dataset
    train_rows, validation_rows = split(dataset, seed, progress.note, validate=validate)
    return _Parts(dataset, partitions, train_rows, validation_rows)


def _other_recipes(
    options: Options, parts: _Parts, model: Model, *, is_new: bool, cache: Path, progress: Progress
) -> tuple[OtherRecipes | None, Neighbours | None]:
    """Return the recipes without photos that are learnt from, and which stand in for which pair's.

    A run that goes on has its recipe head already, and needs the former for the latter alone.
    """
    text = options.text
    if text.others is None or not (is_new or text.neighbours):
        return None, None
    others = OtherRecipes(Path(text.others), parts.dataset, cache)
    if not text.neighbours:
        return others, None
    rows = in_order(parts.train, parts.validation)
    recipes = SubsetRecipes(parts.dataset, rows)
    return others, find_neighbours(model, recipes, others, cache=cache, progress=progress)


def _new_directory(path: Path, options: Options, parts: _Parts, model: Model) -> RunDirectory:
    """Create a run's directory, without a checkpoint yet."""
    return RunDirectory.create(
        path,
        made_by="hficma train",
        options=to_tree(options),
        environment=environment(model.device),
        vocabulary=model.tokenizer.vocabulary,
        text_tokenizer=model.tokenizer.text_tokenizer,
        facts={
            "model": options.model.to_json(),
            "dataset": parts.dataset.name,
            "training_pairs": len(parts.train),
            "validation_pairs": len(parts.validation),
            "test_pairs": len(positions(parts.dataset, ("test",), with_photo=True)),
            "best": None,
            "last": None,
        },
        partitions=parts.partitions,
    )


def _encode_texts(options: Options, model: Model, pairs: Pairs, progress: Progress) -> None:
    """Encode what nothing trains once: it has the same vectors in every epoch."""
    most = options.loader.cache_limit
    if not options.text.tune_sentences:
        pairs.texts.encode_sentences(model, most_bytes=most)
    text_tokenizer = model.tokenizer.text_tokenizer
    if (cut := pairs.texts.texts_cut) and text_tokenizer is not None:
        longest = text_tokenizer.architecture.longest
        progress.note(f"{cut:,} texts are longer than the {longest} tokens that are read: cut off")
    if not options.text.tune_encoder:
        progress.stage("texts", pairs.texts.distinct_texts)
        pairs.texts.encode_texts(model, advance=progress.advance, most_bytes=most)
