"""Ranks random test pairs by the code of `hficma eval`: its time, and its memory at any size.

tokens        as many as an evaluation encodes, of random numbers, kept as it keeps them
ranks         of all in one bag, both directions, with S_local = 0 in place of the network's:
              every table and count is there, and the time is that of all but S_local
S_local       of a bag of BAG pairs, by the network: what each pair adds to that
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from hficma.data.dataset import Dataset
from hficma.model import Model, Tokens
from hficma.training.encoding import collected
from hficma.training.ranking import rank_bag
from hficma.training.scoring import BlockScores

from .learner import trained_model
from .memory import PeakMemory, peak_memory
from .reading import Record

BATCH = 256
"""Items that are encoded at once."""
BAG = 500
"""Pairs whose S_local is computed."""
INGREDIENTS = 20
"""Tokens of a recipe, at most, as published."""


def evaluation_record(
    count: int, preset: str, overrides: list[str], dataset: Dataset, cache: Path, device: str
) -> Record:
    """Rank pairs of random features, and watch the memory.

    Args:
        count: pairs; the published test set has 51,304.
        preset: whose widths the tokens have.
        overrides: `section.name=value`.
        dataset: whose recipes the model's words are of.
        cache: the workspace's cache folder.
        device: that S_local is computed on.
    """
    _, model = trained_model(preset, overrides, dataset, cache, device)
    model.eval()
    generator = torch.Generator().manual_seed(0)
    before = PeakMemory()
    before.look()
    with peak_memory() as encoding:
        photos = collected(_batches(model, count, model.region_count, generator), count,
                           model.region_count)  # fmt: skip
        recipes = collected(_batches(model, count, INGREDIENTS, generator), count, INGREDIENTS)
    assert photos is not None
    assert recipes is not None
    with peak_memory() as ranking:
        rank_bag(model, photos, recipes, scorer=_nothing)
    bag = slice(0, min(BAG, count))
    with peak_memory() as scoring:
        rank_bag(model, photos.select(bag), recipes.select(bag))
    return {
        "count": count,
        "preset": preset,
        "device": str(model.device),
        "model_mb": before.memory_mb,
        "stages": [
            encoding.stage("tokens", count),
            ranking.stage("ranks, S_local left out", count**2),
            scoring.stage(f"a bag of {bag.stop:,}", bag.stop**2),
        ],
        "hours": count**2 / bag.stop**2 * scoring.seconds / 3600,
    }


def _batches(model: Model, count: int, length: int, generator: torch.Generator) -> Iterator[Tokens]:
    """Yield batches of random items, all of the most tokens: as many numbers as there can be."""
    config = model.config
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        yield Tokens(
            torch.randn(size, model.global_dim, generator=generator),
            torch.randn(size, length, config.width, generator=generator),
            torch.full((size,), length),
        )


def _nothing(_: Model, recipe: Tokens) -> BlockScores:
    """Return what scores all pairs with recipes 0."""
    return lambda image: torch.zeros(len(image.global_), len(recipe.global_))
