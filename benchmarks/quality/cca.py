"""Canonical correlation analysis, the oldest baseline of the field."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from hficma.data.dataset import Dataset, positions
from hficma.model import Model, build_model
from hficma.progress import Progress
from hficma.recipe import Recipe
from hficma.training.config.option_files import load_options
from hficma.training.data.photo_cache import cached_regions
from hficma.training.data.recipe_batches import RecipeTexts
from hficma.training.text.text_vectors import word_vectors

PRINCIPAL = 64
"""Principal components of each side that CCA sees: more than a thousand pairs cannot bear."""
CANONICAL = 32

Floats = npt.NDArray[np.float32]


def cca_scores(
    dataset: Dataset, rows: npt.NDArray[np.int64], overrides: Sequence[str], cache: Path
) -> Floats:
    """Cosine of canonical variates, (photos, recipes), of the pairs at the given positions.

    Photos are pooled regions of the frozen trunk, recipes the means of their ingredients' word
    vectors and of their sentence vectors; both reduced by PCA, fitted on the training pairs.

    Args:
        dataset: pairs.
        rows: positions to score.
        overrides: trunk weights and word vectors, as for the dual encoder.
        cache: where features are kept.
    """
    from sklearn.cross_decomposition import CCA
    from sklearn.decomposition import PCA

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
    images = {
        "train": _pooled(model, dataset, known, cache)[np.isin(known, train)],
        "test": _pooled(model, dataset, rows, cache),
    }
    texts = {
        "train": _text_means(model, recipes),
        "test": _text_means(model, [dataset.recipe(int(row)) for row in rows]),
    }
    reduced = []
    for side in (images, texts):
        pca = PCA(PRINCIPAL, whiten=True, random_state=0).fit(side["train"])
        reduced.append({name: pca.transform(values) for name, values in side.items()})
    cca = CCA(CANONICAL, max_iter=2000).fit(reduced[0]["train"], reduced[1]["train"])
    left, right = cca.transform(reduced[0]["test"], reduced[1]["test"])
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    scores: Floats = (left @ right.T).astype(np.float32)
    return scores


def _pooled(model: Model, dataset: Dataset, rows: npt.NDArray[np.int64], cache: Path) -> Floats:
    found = cached_regions(model, dataset, rows, cache, lambda count: None)
    pooled: Floats = np.stack([one[0].astype(np.float32).mean(axis=0) for one in found.rows])
    return pooled


@torch.no_grad()
def _text_means(model: Model, recipes: Sequence[Recipe]) -> Floats:
    batch = RecipeTexts(recipes, model.tokenizer).batch(model, range(len(recipes)))
    table = model.get_submodule("ingredient_words")
    words = table(batch.ingredients).sum(dim=1) / batch.ingredient_counts[:, None]
    sentences = batch.sentences.sum(dim=1) / batch.sentence_counts[:, None]
    joined: Floats = torch.cat([words, sentences], dim=1).numpy()
    return joined
