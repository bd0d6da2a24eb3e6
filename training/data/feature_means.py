"""The means of the training pairs' features, which the heads of a model take off all features."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from hficma.model import HFICMA, DualEncoder, Model
from hficma.model.dual import RecipeFields
from hficma.model.encoders.heads import Centred, Head

from .field_means import recipe_means
from .pairs.pairs import Pairs

MOST_PAIRS = 2048
"""Pairs that the means are taken over: of more they hardly differ."""
BATCH = 64
"""Pairs at once."""


@torch.no_grad()
def fill_feature_means(model: Model, pairs: Pairs, *, cached: bool) -> None:
    """Fill in the means of a new model's heads, if it has any.

    Once, before the first step: statistics of batches, which lack what is left out of them at
    random, would be those of other features than a search shows.

    Args:
        model: whose encoders and heads these are.
        pairs: of the run.
        cached: read photos from the cache of features, as the first epoch does.
    """
    if not isinstance(model, HFICMA | DualEncoder):
        return
    image, recipe = model.image_global, model.recipe_global
    if not isinstance(image, Head) or not isinstance(recipe, RecipeFields):
        return
    assert isinstance(recipe.head, Head)  # an ensemble's heads were trained
    pairs.prepare(model, cached=cached)
    count = min(MOST_PAIRS, len(pairs.train))
    rows = pairs.train[np.linspace(0, len(pairs.train) - 1, count).astype(np.int64)]
    batches = [rows[start : start + BATCH] for start in range(0, count, BATCH)]
    training = model.training
    model.eval()
    pooled = (pairs.centre_features(model, batch, cached=cached).pooled for batch in batches)
    widths = [part.mean.shape[0] for part in image.parts if isinstance(part, Centred)]
    fill_means(
        image.parts,
        ([(part, part.new_ones(len(part))) for part in one.split(widths, dim=1)] for one in pooled),
    )
    recipes = (pairs.texts.batch(model, batch) for batch in batches)
    fill_means(recipe.head.parts, (recipe_means(model, batch) for batch in recipes))
    model.train(training)


def fill_means(parts: nn.ModuleList, batches: Iterable[list[tuple[Tensor, Tensor]]]) -> None:
    """Set the mean of each part of a head; one without layers has none.

    Args:
        parts: one for each vector of an item.
        batches: for each part its vectors (N, D), and which items have it (N,), 1 or 0.
    """
    centred = [part for part in parts if isinstance(part, Centred)]
    if not centred:
        return
    sums = [torch.zeros_like(part.mean, dtype=torch.float64) for part in centred]
    counts = [0.0] * len(centred)
    for batch in batches:
        for number, (vectors, present) in enumerate(batch):
            sums[number] += (vectors.double() * present.double()[:, None]).sum(dim=0)
            counts[number] += float(present.sum())
    for part, total, count in zip(centred, sums, counts, strict=True):
        part.mean.copy_(total / max(count, 1.0))
