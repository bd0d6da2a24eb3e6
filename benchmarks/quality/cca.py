"""Canonical correlation analysis, the oldest baseline of the field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from hficma.data.dataset import Dataset, positions
from hficma.model import Model, build_model
from hficma.progress import Progress
from hficma.recipe import Recipe
from hficma.training.config.option_files import load_options
from hficma.training.data.photo_cache import cached_features
from hficma.training.data.recipe_batches import RecipeTexts
from hficma.training.text.text_vectors import word_vectors
from hficma.types import AnyFloats, Floats, Positions

RIDGE = 0.1
"""For features of a network, of which a thousand pairs tell little."""

Scorer = Callable[[Floats, AnyFloats], AnyFloats]
"""From features of photos (B, P) and recipes (M, Q) to scores (B, M)."""


def correlate(photos: Floats, recipes: Floats, ridge: float) -> Scorer:
    """Fit regularised canonical correlation analysis (Hotelling 1936; ridge: Vinod 1976).

    Both sides are whitened; the singular vectors of their cross-covariance are then the directions
    that correlate most, and the singular values their correlations.

    Args:
        photos: features of the photos, (N, P).
        recipes: features of their recipes, (N, Q).
        ridge: what is added to both covariances, relative to their mean variance.

    Returns:
        what gives cosines of the canonical projections, each direction weighted by its correlation.
    """
    means = photos.mean(axis=0), recipes.mean(axis=0)
    centred = photos - means[0], recipes - means[1]
    whitening = [_whitening(features, ridge) for features in centred]
    white = [features @ matrix for features, matrix in zip(centred, whitening, strict=True)]
    left, correlations, right = np.linalg.svd(
        white[0].T @ white[1] / len(photos), full_matrices=False
    )
    weight = np.sqrt(correlations)
    projections = whitening[0] @ left * weight, whitening[1] @ right.T * weight

    def scores(photos: Floats, recipes: AnyFloats) -> AnyFloats:
        image, recipe = (
            unit((features - mean) @ projection)
            for features, mean, projection in zip(
                (photos, recipes), means, projections, strict=True
            )
        )
        product: AnyFloats = image @ recipe.T
        return product

    return scores


def cca_scores(dataset: Dataset, rows: Positions, overrides: Sequence[str], cache: Path) -> Floats:
    """Return cosines of canonical projections, (photos, recipes), of the pairs at some positions.

    Photos are pooled regions of the frozen image encoder, recipes the means of their ingredients'
    word vectors and of their sentence vectors; fitted on the training pairs.

    Args:
        dataset: pairs.
        rows: positions to score.
        overrides: image encoder's weights and word vectors, as for the dual encoder.
        cache: where features lie between runs.
    """
    train = positions(dataset, ("train",), with_photo=True)
    options = load_options("dual-encoder", overrides)
    recipes = [dataset.recipe(int(row)) for row in train]
    vectors = word_vectors(
        options.text.vectors, recipes, dim=options.model.word_dim, seed=0, cache=cache,
        progress=Progress(),
    )  # fmt: skip
    model = build_model(options.model, vectors, backbone_weights=options.trunk.weights).eval()
    # The cache that every other method fills holds the validation pairs too.
    known = positions(dataset, ("train", "val"), with_photo=True)
    pooled = _pooled_regions(model, dataset, known, cache)[np.isin(known, train)]
    scorer = correlate(pooled, _text_means(model, recipes), RIDGE)
    test = [dataset.recipe(int(row)) for row in rows]
    scores = scorer(_pooled_regions(model, dataset, rows, cache), _text_means(model, test))
    return scores.astype(np.float32)


def _pooled_regions(model: Model, dataset: Dataset, rows: Positions, cache: Path) -> AnyFloats:
    arrays = cached_features(model, dataset, rows, cache, lambda count: None, regions=False)
    pooled: AnyFloats = arrays.features(np.arange(len(rows)), 0).pooled.numpy()
    return pooled


@torch.no_grad()
def _text_means(model: Model, recipes: Sequence[Recipe]) -> AnyFloats:
    batch = RecipeTexts(recipes, model.tokenizer).batch(model, range(len(recipes)))
    table = model.get_submodule("ingredient_words")
    words = table(batch.ingredients).sum(dim=1) / batch.ingredient_counts[:, None]
    sentences = batch.sentences.sum(dim=1) / batch.sentence_counts[:, None]
    joined: AnyFloats = torch.cat([words, sentences], dim=1).numpy()
    return joined


def _whitening(centred: Floats, ridge: float) -> AnyFloats:
    """Return the matrix that makes columns uncorrelated, of unit variance but for the ridge."""
    covariance = centred.T @ centred / len(centred)
    values, vectors = np.linalg.eigh(covariance)
    variance = np.maximum(values, 0) + ridge * np.trace(covariance) / len(values)
    matrix: AnyFloats = vectors / np.sqrt(variance)
    return matrix


def unit(rows: AnyFloats) -> AnyFloats:
    """Return rows of length one; those of zeros stay."""
    lengths: AnyFloats = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(lengths, 1e-12)
