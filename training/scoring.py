"""Scores every photo against every recipe, in blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

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


@torch.inference_mode()
def score_tables(
    model: Model,
    image: Tokens,
    recipe: Tokens,
    *,
    on_done: Callable[[int], None] = lambda count: None,
) -> ScoreTables:
    """Return S of every pair through the fast form; recipes are projected once.

    Args:
        model: in evaluation mode.
        image: N photos.
        recipe: N recipes.
        on_done: called with the number of photos that were just scored.
    """
    config = model.config
    global_: Floats = (image.global_.float() @ recipe.global_.float().T).cpu().numpy()
    if not model.has_local or config.local_weight == 0:
        on_done(len(global_))
        return ScoreTables(config.score_weights.total(global_, None), global_, None)
    recipes = model.project_recipe(recipe)
    local = np.empty_like(global_)
    for start in range(0, len(global_), PHOTO_BLOCK):
        block = slice(start, start + PHOTO_BLOCK)
        photos = model.project_image(image.select(block))
        local[block] = model.pair_scores(photos, recipes, tile=TILE).cpu().numpy()
        on_done(len(local[block]))
    return ScoreTables(config.score_weights.total(global_, local), global_, local)


def both_directions(scores: Floats) -> dict[str, Ranks]:
    """Return ranks (N,) in one bag by direction: photo to recipe, and recipe to photo."""
    return {"image_to_recipe": ranks(scores), "recipe_to_image": ranks(scores.T)}
