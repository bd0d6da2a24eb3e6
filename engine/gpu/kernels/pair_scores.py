"""S_local of groups of pairs on a GPU: the three kernels one after the other.

    attend   photos' rows read recipes      attend   recipes' rows read photos
    fuse     -> c_1 (G B M, D)              fuse     -> c_2 (G B M, D)
                          match -> (G, B, M)

One query and K candidates are one group of 1 and K; Q queries with K candidates each are Q groups;
a block is one group of B and M. Queries may be photos or recipes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hficma.model.similarity import FoldedItemWeights, FoldedWeights

from .attention import attend
from .fusion import fuse
from .matching import match
from .packed_items import PackedItems, group_rows


def kernel_weights(weights: FoldedWeights, dtype: torch.dtype) -> FoldedWeights:
    """Return the weights as the kernels read them: `match_hidden` in `dtype`, the rest float32."""

    def narrow(item: FoldedItemWeights) -> FoldedItemWeights:
        return item._replace(fuse_bias=item.fuse_bias.float())

    return weights._replace(
        image=narrow(weights.image),
        recipe=narrow(weights.recipe),
        match_hidden=weights.match_hidden.to(dtype).contiguous(),
        match_hidden_bias=weights.match_hidden_bias.float(),
        match_output=weights.match_output.float(),
        match_output_bias=weights.match_output_bias.float(),
    )


def score_groups(
    image: PackedItems,
    recipe: PackedItems,
    photos: Tensor,
    recipes: Tensor,
    weights: FoldedWeights,
) -> Tensor:
    """Compute S_local of every photo with every recipe of its group.

    Args:
        image: the photos to choose from, at `tables`.
        recipe: the recipes to choose from, at `tables`.
        photos: (G, B) int64 positions.
        recipes: (G, M) int64 positions.
        weights: of `kernel_weights`.

    Returns:
        (G, B, M) float32.
    """
    image_rows, recipe_rows = group_rows(image, photos), group_rows(recipe, recipes)
    image_means = fuse(
        image, recipe, image_rows, recipe_rows,
        *attend(image, recipe, image_rows, recipe_rows),
        weights.image.fuse_bias, source_first=False,
    )  # fmt: skip
    recipe_means = fuse(
        recipe, image, recipe_rows, image_rows,
        *attend(recipe, image, recipe_rows, image_rows),
        weights.recipe.fuse_bias, source_first=True,
    )  # fmt: skip
    scores = match(image_means, recipe_means, weights)
    return scores.view(*photos.shape, recipes.shape[1])
