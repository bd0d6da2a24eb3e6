"""Why a photo and a recipe match: which token read which, and how far each gate opened.

The torch reference of what `hficma.engine.explain` computes from an index in NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .encoders.batches import Tokens
from .hf_icma import HFICMA
from .similarity import attend


@dataclass(frozen=True, kw_only=True)
class AttentionMaps:
    """Attention and gates of one photo and one recipe; regions lie row by row."""

    ingredient_to_regions: Tensor
    """(H, T, R): of each ingredient over the regions; sums to 1 over R."""
    region_to_ingredients: Tensor
    """(H, R, T): of each region over the ingredients; sums to 1 over T."""
    ingredient_gates: Tensor
    """(T,) in (0, 1): how much of what an ingredient read is let through."""
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
        """Average `ingredient_to_regions` over the heads, (T, R)."""
        return self.ingredient_to_regions.mean(dim=0)

    @property
    def mean_region_to_ingredients(self) -> Tensor:
        """Average `region_to_ingredients` over the heads, (R, T)."""
        return self.region_to_ingredients.mean(dim=0)


@torch.no_grad()
def attention_maps(model: HFICMA, image: Tokens, recipe: Tokens) -> AttentionMaps:
    """Compute the attention and the gates behind the score of one pair.

    Args:
        model: HF-ICMA; AdaMine has no attention to show.
        image: one photo, from `encode_images`.
        recipe: one recipe, from `encode_recipes`.

    Raises:
        ValueError: more than one photo or recipe.
    """
    if len(image.global_) != 1 or len(recipe.global_) != 1:
        raise ValueError("attention_maps takes one photo and one recipe")
    photo = model.project_image(image).grouped((1, 1))
    text = model.project_recipe(recipe).grouped((1, 1))
    heads = model.config.heads
    on_ingredients, region_gates = attend(photo, text, heads)  # (1, H, 1, R, 1, T), (1, 1, R, 1)
    on_regions, ingredient_gates = attend(text, photo, heads)  # (1, H, 1, T, 1, R), (1, 1, T, 1)
    length = int(recipe.lengths[0])
    scores = model.score(image, recipe)
    assert scores.local is not None
    return AttentionMaps(
        ingredient_to_regions=on_regions[0, :, 0, :length, 0],
        region_to_ingredients=on_ingredients[0, :, 0, :, 0, :length],
        ingredient_gates=ingredient_gates[0, 0, :length, 0],
        region_gates=region_gates[0, 0, :, 0],
        score=float(scores.total),
        global_score=float(scores.global_),
        local_score=float(scores.local),
    )
