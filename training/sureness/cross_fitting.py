"""Scores pairs by models that have not learnt from them: one training a fold.

The folds part the pairs that a run learnt from; its test pairs are in none. A model is trained on
all folds but one, like the run itself, and its queries of that one are scored with every item:

                      items of fold 1   2   3
    photos of fold 1  by model 1 ───────────▶     photos of a fold are new to its model,
    photos of fold 2  by model 2 ───────────▶     recipes on the way only where they are of
    photos of fold 3  by model 3 ───────────▶     the same fold

Recipes look for photos the same way. Where a run chooses its epoch by validation pairs, a fold
stands in their place. That some of the items were learnt from matters little: they are only what a
query must not be mixed up with, and pools as large as a cookbook take them all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from hficma.data.dataset import Dataset, positions
from hficma.data.partitions import Partitioned
from hficma.errors import InputError
from hficma.model import Model, load_model
from hficma.progress import Progress
from hficma.types import AnyFloats, Positions

from ..config.options import Options
from ..data.keep_out import dish_groups, photo_names
from ..data.pairs.photos import fits, pair_feature_specs, pair_features
from ..encoding import EncodedPairs, encode_cached, encode_positions
from ..scoring import score_tables
from ..training import train_on
from .pools import CrossFitScores

FOLDS = 5
"""Models that are trained: each learns from four fifths of the pairs."""
MOST_PAIRS = 4000
"""Pairs that are scored with each other; of more, some are drawn, and all are learnt from."""
LEAST_PAIRS = 50
"""Pairs whose answers say something of chances."""
SEED = 0
"""Draws the folds, and which pairs are scored."""


class CrossFit(NamedTuple):
    """Scores of P pairs by models that had not learnt from the query's."""

    image: AnyFloats
    """(P, P) S of photos, down, with recipes."""
    recipe: AnyFloats
    """(P, P) S of recipes, down, with photos."""
    folds: Positions
    """(P,) the fold that each pair was held out with, from 0."""

    def queries(self, scores: AnyFloats) -> CrossFitScores:
        """Return one of the two tables as scores of queries with their partners."""
        return CrossFitScores(scores, np.arange(len(scores)), self.folds)


def cross_fit(
    options: Options, dataset: Dataset, *, folds: int, cache: Path, progress: Progress
) -> CrossFit:
    """Train a model a fold and score the pairs that it has not seen.

    Args:
        options: of each training.
        dataset: its training and validation pairs are parted.
        folds: how many.
        cache: the workspace's cache folder.
        progress: receives the stages of each training.

    Raises:
        InputError: the pairs are too few.
    """
    rows, fold_of = learnt_pairs(dataset, folds, cache)
    scored = np.arange(len(rows))
    if len(rows) > MOST_PAIRS:
        scored = np.sort(np.random.default_rng(SEED).choice(scored, MOST_PAIRS, replace=False))
    tables = list(_fold_tables(options, dataset, rows, fold_of, scored, cache, progress))
    usable = tables[0].usable
    image = np.empty((len(usable), len(usable)), np.float32)
    recipe = np.empty_like(image)
    folds_scored = fold_of[scored[usable]]
    for fold, table in enumerate(tables):
        held_out = folds_scored == fold
        image[held_out], recipe[held_out] = table.image, table.recipe
    return CrossFit(image, recipe, folds_scored)


class _FoldTable(NamedTuple):
    """What one fold's model says."""

    image: AnyFloats
    """(Q, P) S of the fold's photos with all recipes."""
    recipe: AnyFloats
    """(Q, P) S of the fold's recipes with all photos."""
    usable: Positions
    """(P,) places, among those to be scored, of the pairs whose photos can be read."""


def _fold_tables(
    options: Options,
    dataset: Dataset,
    rows: Positions,
    fold_of: Positions,
    scored: Positions,
    cache: Path,
    progress: Progress,
) -> Iterator[_FoldTable]:
    """Train and score, fold by fold; see `cross_fit`."""
    for fold, model in enumerate(fold_models(options, dataset, rows, fold_of, cache, progress)):
        encoded = encode_learnt(
            model, dataset, rows, scored, options=options, cache=cache, progress=progress
        )
        usable = np.flatnonzero(encoded.usable)
        queries = torch.from_numpy(np.flatnonzero(fold_of[scored[usable]] == fold))
        image, recipe = encoded.image, encoded.recipe
        yield _FoldTable(
            score_tables(model, image.select(queries), recipe).total,
            score_tables(model, image, recipe.select(queries)).total.T,
            usable,
        )


def fold_models(
    options: Options,
    dataset: Dataset,
    rows: Positions,
    fold_of: Positions,
    cache: Path,
    progress: Progress,
) -> Iterator[Model]:
    """Yield a model for each fold in turn, trained on all pairs but the fold's.

    Args:
        options: of each training.
        dataset: holds the pairs.
        rows: (P,) their positions.
        fold_of: (P,) the fold of each, from 0.
        cache: the workspace's cache folder.
        progress: receives the stages of each training.
    """
    ids = [dataset.recipe(int(row)).id for row in rows]
    if not options.trainer.validation_pairs:
        # Or the fold would be learnt from. Nothing depends on what is validated: the weights of
        # the last epoch are taken, as in the run.
        trainer = replace(options.trainer, validation_pairs=2, keep="last")
        options = replace(options, trainer=trainer)
    for fold in range(int(fold_of.max()) + 1):
        # As validation pairs: then all folds and the run have the same pairs in their cache of
        # photos, which would be filled anew for each if the fold were left out.
        held_out = dict(zip(ids, np.where(fold_of == fold, "val", "train").tolist(), strict=True))
        view = Partitioned(dataset, held_out)
        progress.note(f"fold {fold + 1}: {int((fold_of == fold).sum())} pairs held out")
        with tempfile.TemporaryDirectory() as folder:
            run = train_on(options, view, Path(folder) / "run", cache=cache, progress=progress)
            model = load_model(run)
        yield model


def encode_learnt(
    model: Model,
    dataset: Dataset,
    rows: Positions,
    places: Positions,
    *,
    options: Options,
    cache: Path,
    progress: Progress,
) -> EncodedPairs:
    """Encode some of the pairs that a fold's training had, held out or not.

    Args:
        model: of the fold, in evaluation mode.
        dataset: holds the pairs.
        rows: (P,) positions of all pairs of the training.
        places: (Q,) which of them.
        options: of the training.
        cache: the workspace's cache folder.
        progress: receives a step for each photo that is read.
    """
    is_cached = options.trunk.schedule == "frozen" and fits(
        pair_feature_specs(model, len(rows), options), options
    )
    if not is_cached:
        return encode_positions(model, dataset, rows[places], progress)
    # What the training read of the photos lies in the cache.
    photos = pair_features(model, dataset, rows, options, cache, lambda _: None)
    return encode_cached(model, photos, dataset, rows, places)


def learnt_pairs(dataset: Dataset, folds: int, cache: Path) -> tuple[Positions, Positions]:
    """Return the positions (P,) of the pairs that a run learns from, and the fold of each (P,).

    Args:
        dataset: its training and validation pairs are parted.
        folds: how many.
        cache: the workspace's cache folder.

    Raises:
        InputError: the pairs are too few.
    """
    rows = positions(dataset, ("train", "val"), with_photo=True)
    if len(rows) < LEAST_PAIRS or folds < 2:
        raise InputError(
            f"{dataset.name}: {len(rows)} pairs to learn from, in {folds} folds: models that have "
            f"not seen a pair take {LEAST_PAIRS} pairs or more, in two folds or more"
        )
    return rows, dish_folds(dataset, rows, folds, cache)


def dish_folds(dataset: Dataset, rows: Positions, count: int, cache: Path) -> Positions:
    """Return the fold of each pair, (P,) from 0; pairs that may be one dish are of one fold.

    A dish that a model has learnt from by its other photo is known by heart, and its scores look
    surer than those of new dishes.

    Args:
        dataset: holds the pairs.
        rows: (P,) their positions.
        count: folds, of about equal sizes.
        cache: the workspace's cache folder.
    """
    recipes = [dataset.recipe(int(row)) for row in rows]
    groups = dish_groups(recipes, photo_names(dataset, rows, cache))
    return balanced_folds(groups, count)


def balanced_folds(groups: Sequence[Sequence[int]], count: int) -> Positions:
    """Return the fold of each member of groups, (P,): every group goes to the smallest fold.

    Args:
        groups: of places 0 to P - 1.
        count: folds.
    """
    folds = np.empty(sum(map(len, groups)), np.int64)
    sizes = [0] * count
    for number in np.random.default_rng(SEED).permutation(len(groups)):
        group = groups[int(number)]
        smallest = sizes.index(min(sizes))
        folds[list(group)] = smallest
        sizes[smallest] += len(group)
    return folds
