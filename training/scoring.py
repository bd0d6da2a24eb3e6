"""Scores every photo against every recipe, in blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from hficma.metrics import ranks
from hficma.model import Model, Tokens
from hficma.types import Floats, Ranks

PHOTO_BLOCK = 64
"""Photos that are projected at once."""
TILE = 256
"""Pairs computed at once: best for the small widths that are trained on a CPU."""


@dataclass(frozen=True)
class ScoreTables:
    """Scores of N photos (down) and N recipes (across)."""

    total: Floats
    """S (N, N)."""
    global_: Floats
    """S_global (N, N)."""
    local: Floats | None
    """S_local (N, N); None where S has no local part."""


BlockScores: TypeAlias = Callable[[Tokens], Tensor]
"""Scores B photos with M recipes: (B, M) S_local."""


def block_scores(model: Model, recipe: Tokens) -> BlockScores:
    """Return what scores photos with M recipes in float32; recipes are projected once.

    Args:
        model: with a local part, in evaluation mode.
        recipe: M recipes.
    """
    recipes = model.project_recipe(recipe)

    def score(image: Tokens) -> Tensor:
        return model.pair_scores(model.project_image(image), recipes, tile=TILE)

    return score


@torch.inference_mode()
def score_tables(
    model: Model,
    image: Tokens,
    recipe: Tokens,
    *,
    on_done: Callable[[int], None] = lambda count: None,
    scorer: Callable[[Model, Tokens], BlockScores] = block_scores,
) -> ScoreTables:
    """Return S of every pair through the fast form.

    Args:
        model: in evaluation mode.
        image: N photos.
        recipe: N recipes.
        on_done: called with the number of photos that were just scored.
        scorer: makes what scores S_local, such as a GPU's kernels.
    """
    config = model.config
    global_: Floats = (image.global_.float() @ recipe.global_.float().T).cpu().numpy()
    local = local_scores(local_scorer(model, recipe, scorer), image, len(recipe.global_), on_done)
    return ScoreTables(config.score_weights.total(global_, local), global_, local)


@torch.inference_mode()
def local_scorer(
    model: Model, recipe: Tokens, scorer: Callable[[Model, Tokens], BlockScores]
) -> BlockScores | None:
    """Return what scores photos on any device with M recipes; None where S has no local part.

    Args:
        model: in evaluation mode.
        recipe: M recipes, on any device.
        scorer: see `score_tables`.
    """
    if not model.has_local or model.config.local_weight == 0:
        return None
    score = scorer(model, recipe.to(model.device))
    return lambda image: score(image.to(model.device))


@torch.inference_mode()
def local_scores(
    score: BlockScores | None, image: Tokens, recipes: int, on_done: Callable[[int], None]
) -> Floats | None:
    """Return S_local (N, M), some photos at a time; None where S has no local part.

    Args:
        score: of `local_scorer`.
        image: N photos.
        recipes: M.
        on_done: called with the number of photos that were just scored.
    """
    count = len(image.global_)
    if score is None:
        on_done(count)
        return None
    local = np.empty((count, recipes), dtype=np.float32)
    for start in range(0, count, PHOTO_BLOCK):
        block = slice(start, start + PHOTO_BLOCK)
        local[block] = score(image.select(block)).cpu().numpy()
        on_done(len(local[block]))
    return local


def both_directions(scores: Floats) -> dict[str, Ranks]:
    """Return ranks (N,) in one bag by direction: photo to recipe, and recipe to photo."""
    return {"image_to_recipe": ranks(scores), "recipe_to_image": ranks(scores.T)}
