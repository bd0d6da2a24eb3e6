"""Evaluates a run: how well it ranks recipes for photos, and photos for recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from hficma.data.dataset import Dataset, positions
from hficma.data.partitions import open_runs_dataset
from hficma.errors import InputError
from hficma.images.crops import check_crops
from hficma.metrics import bags
from hficma.model import Model, Tokens, load_model
from hficma.progress import Progress
from hficma.types import Positions

from .encoding import EncodedPairs, encode_positions
from .evaluation_figures import SETUPS, Evaluation, evaluation_of
from .parallel.device import pick_device
from .ranking import BagRanks, rank_bag
from .runs.run import RunDirectory
from .scoring import BlockScores, block_scores

BAGS = 10
"""Bags of the setups `1k` and `10k`, as published."""
SEED = 1234
"""Draws the bags: the same ones for every run on the same pairs."""


def evaluate(
    run: Path,
    data: str | None = None,
    split: str = "test",
    setup: Literal["1k", "10k", "all"] = "1k",
    *,
    prefilter: int | None = None,
    crops: int | None = None,
    weights: Literal["best", "last"] = "best",
    device: str = "auto",
    name: str | None = None,
    progress: Progress | None = None,
    scorer: Callable[[Model, Tokens], BlockScores] = block_scores,
) -> Evaluation:
    """Return a run's figures on a split, which the run keeps too.

    The protocol is the published one (Salvador et al., CVPR 2017, section 5), made repeatable:
    seeded bags of pairs, each photo ranked among its bag's recipes and each recipe among its
    photos; first photo; ranks count from 1, and ties count against the model.

    Args:
        run: the run directory.
        data: another dataset than the run's own.
        split: `train`, `val` or `test`.
        setup: `1k` (10 bags of 1,000), `10k` (10 bags of 10,000) or `all` (one bag of all).
        crops: crops of a photo whose global vectors are averaged, 1 or 5; None takes as many as
            the model was trained for.
        prefilter: K; also report what re-ranking the top K by S_global gives.
        weights: which of the run's weights.
        device: `cpu`, `cuda`, `cuda:N` or `auto`.
        name: keep the figures in the run under this name; None takes split and setup.
        progress: receives stages, steps and notes.
        scorer: makes what scores pairs; see `score_tables`.

    Raises:
        InputError: the split has too few pairs, or the options make no sense.
    """
    if setup not in SETUPS:
        raise InputError(f"{setup}: the setup must be one of {', '.join(SETUPS)}")
    if split not in ("train", "val", "test"):
        raise InputError(f"{split}: the split must be train, val or test")
    progress = progress or Progress()
    if crops is not None:
        check_crops(crops)
    directory = RunDirectory.open(run)
    dataset = dataset_of(directory, data, progress)
    model = load_model(run, weights=weights).to(pick_device(device))
    rows = positions(dataset, (split,), with_photo=True)
    if len(rows) < 2:
        raise InputError(_no_pairs(dataset, split, len(rows)))
    members = bags(len(rows), SETUPS[setup] or len(rows), count=BAGS, seed=SEED)
    # Bags overlap: each pair is encoded once, and bags then name it by its place among those.
    union = np.unique(np.concatenate(members))
    encoded = encode_positions(model, dataset, rows[union], progress, crops=crops)
    places = np.full(len(rows), -1)  # of a pair of the split among the encoded; -1: unreadable
    places[union[encoded.usable]] = np.arange(len(encoded.image.lengths))
    left_out = encoded.complaints
    result = evaluation_of(
        _rank_bags(model, encoded, [places[bag] for bag in members], prefilter, progress, scorer),
        run=str(run),
        dataset=dataset.name,
        split=split,
        setup=setup,
        items=len(rows) - len(left_out),
        prefilter=prefilter,
        left_out=left_out,
        trained_on=_trained_on(directory, dataset, split),
    )
    # A run that is resumed later has other weights: figures that name theirs can be told apart.
    epoch = (directory.facts.get(weights) or {}).get("epoch")
    name = name or f"{split}-{setup}" + (f"-{crops}-crops" if crops is not None else "")
    directory.save_evaluation(name, {**result.to_json(), "epoch": epoch})
    return result


def _no_pairs(dataset: Dataset, split: str, count: int) -> str:
    """Return why a split cannot be evaluated, and what to do."""
    named = f"has {count or 'no'} {split} {'pair' if count == 1 else 'pairs'} with photos"
    if split == "test" and not count:
        return (
            f"{dataset.name}: {named}; train with hold_out=10% to keep a tenth of the pairs out "
            "and remember them, or give recipes a partition (train, val, test)"
        )
    return f"{dataset.name}: {named}; two are the fewest that can be ranked"


def _trained_on(run: RunDirectory, dataset: Dataset, split: str) -> str | None:
    """Return what the run already knew of the pairs that it is judged by; None if nothing."""
    if dataset.name != run.facts.get("dataset"):
        return None
    if split == "train" or (split == "val" and not run.facts.get("validation_pairs")):
        return "the run was trained on these pairs: the figures say nothing of new ones"
    if split == "val" and run.options["trainer"]["keep"] == "best":
        return "the run's epoch was chosen by these pairs: new ones are found a little less often"
    return None


def dataset_of(run: RunDirectory, data: str | None, progress: Progress) -> Dataset:
    """Open a dataset by its name, or the one that a run was trained on.

    Args:
        run: its partitions hold too: pairs that it kept out are test and validation pairs.
        data: what `open_dataset` takes; None takes the run's own.
        progress: receives a line for each record that is left out.

    Raises:
        InputError: none is named, and the run knows of none: it was converted.
    """
    dataset = open_runs_dataset(run.path, data, on_bad=progress.bad)
    if dataset is None:
        raise InputError(
            f"{run.path}: a converted run does not know what it was trained on; name a dataset"
        )
    return dataset


def _rank_bags(
    model: Model,
    encoded: EncodedPairs,
    members: Sequence[Positions],
    prefilter: int | None,
    progress: Progress,
    scorer: Callable[[Model, Tokens], BlockScores],
) -> Iterator[BagRanks]:
    """Yield the ranks of each bag, without the pairs whose photos cannot be read (-1)."""
    for number, bag in enumerate(members, 1):
        rows = torch.from_numpy(bag[bag >= 0])
        progress.stage(f"bag {number} of {len(members)}", len(rows))
        # All pairs in their order are not copied: with their tokens they may be gigabytes.
        whole = len(rows) == len(encoded.image.lengths)
        image, recipe = (
            tokens if whole else tokens.select(rows) for tokens in (encoded.image, encoded.recipe)
        )
        yield rank_bag(
            model, image, recipe, prefilter=prefilter, on_done=progress.advance, scorer=scorer
        )
