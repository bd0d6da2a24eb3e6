"""Why a photo and a recipe match: who looked at what, and how far each gate opened."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Tokens
from .hf_icma import HFICMA
from .similarity import attend


@dataclass(frozen=True)
class Explanation:
    """Attention and gates of one pair; R regions are the 7 x 7 grid row by row."""

    ingredient_to_regions: Tensor
    """(H, T, R): of each ingredient over the regions; sums to 1 over R."""
    region_to_ingredients: Tensor
    """(H, R, T): of each region over the ingredients; sums to 1 over T."""
    ingredient_gates: Tensor
    """(T,) in (0, 1)."""
    region_gates: Tensor
    """(R,) in (0, 1)."""
    score: float
    """S."""
    global_score: float
    """S_global."""
    local_score: float
    """S_local."""

    @property
    def mean_ingredient_to_regions(self) -> Tensor:
        """(T, R): averaged over the heads."""
        return self.ingredient_to_regions.mean(dim=0)

    @property
    def mean_region_to_ingredients(self) -> Tensor:
        """(R, T): averaged over the heads."""
        return self.region_to_ingredients.mean(dim=0)


@torch.no_grad()
def explain(model: HFICMA, image: Tokens, recipe: Tokens) -> Explanation:
    """Explain the score of one pair.

    Args:
        model: HF-ICMA; AdaMine has no attention to show.
        image: one photo, from `encode_images`.
        recipe: one recipe, from `encode_recipes`.
    """
    if len(image.global_) != 1 or len(recipe.global_) != 1:
        raise ValueError("explain takes one photo and one recipe")
    photo_side = model.project_image(image).grouped((1, 1))
    recipe_side = model.project_recipe(recipe).grouped((1, 1))
    heads = model.config.heads
    on_ingredients, region_gates = attend(photo_side, recipe_side, heads)
    on_regions, ingredient_gates = attend(recipe_side, photo_side, heads)
    count = int(recipe.lengths[0])
    scores = model.score(image, recipe)
    assert scores.local is not None
    return Explanation(
        ingredient_to_regions=on_regions[0, :, 0, :count, 0],
        region_to_ingredients=on_ingredients[0, :, 0, :, 0, :count],
        ingredient_gates=ingredient_gates[0, 0, :count, 0],
        region_gates=region_gates[0, 0, :, 0],
        score=float(scores.total),
        global_score=float(scores.global_),
        local_score=float(scores.local),
    )
