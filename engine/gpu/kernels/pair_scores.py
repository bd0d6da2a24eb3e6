"""S_local of groups of pairs: by the kernels, one after the other, or in plain torch without a GPU.

    item_tables  the sources' tables, where they are not stored
    attend       photos' rows read recipes      attend   recipes' rows read photos
    fuse         -> c_1 (G B M, D)              fuse     -> c_2 (G B M, D)
                              match -> (G, B, M)

One query and K candidates are one group of 1 and K; Q queries with K candidates each are Q groups;
a block is one group of B and M. Queries may be photos or recipes.
"""

from __future__ import annotations

import logging
from functools import cache
from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from hficma.model.similarity import FoldedItemWeights, FoldedWeights

from .packed_items import PackedItems, group_rows
from .plain_scores import FLOATS_A_TOKEN, plain_scores
from .tile_shapes import fits_on_chip

SCRATCH_BYTES = 1 << 30
"""What the kernels may write for one another at once: 25,000 pairs of 20 tokens at D = 1024."""
MOST_GROUPS = 65_535
"""Groups of a launch: CUDA's limit of a grid's third axis."""
OLDEST_CAPABILITY = (8, 0)
"""Compute capability of the first GPU that the kernels are compiled for."""

_log = logging.getLogger("hficma")


def kernel_weights(weights: FoldedWeights, dtype: torch.dtype) -> FoldedWeights:
    """Return the weights as the kernels read them: products' in `dtype`, the rest float32."""

    def narrow(item: FoldedItemWeights) -> FoldedItemWeights:
        return item._replace(
            projection=item.projection.to(dtype),
            projection_bias=item.projection_bias.to(dtype),
            gate_bias=item.gate_bias.float(),
            table=item.table.to(dtype).contiguous(),
            fuse_bias=item.fuse_bias.float(),
        )

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
    *,
    scratch_bytes: int = SCRATCH_BYTES,
) -> Tensor:
    """Compute S_local of every photo with every recipe of its group.

    Nothing waits for the device. What the kernels hand to one another is bounded: more pairs are
    scored in several launches, each half of the groups or of the longer side of a group.

    Args:
        image: the photos to choose from, at `projections` or `tables`.
        recipe: the recipes to choose from, at `projections` or `tables`.
        photos: (G, B) int64 positions.
        recipes: (G, M) int64 positions.
        weights: of `kernel_weights`.
        scratch_bytes: what they may take of memory besides, for more than a single pair.

    Returns:
        (G, B, M) float32.
    """
    sizes = (photos.shape[0], photos.shape[1], recipes.shape[1])  # G, B, M
    if not prod(sizes):
        return torch.empty(sizes, device=photos.device)
    kernels = _uses_kernels(photos.device, max(image.longest, recipe.longest), image)
    needed = _scratch(image, recipe, sizes, kernels=kernels)
    if sizes[0] > MOST_GROUPS or (needed > scratch_bytes and max(sizes) > 1):
        axis = 0 if sizes[0] > 1 else 1 + (sizes[2] > sizes[1])
        middle = sizes[axis] // 2
        parts = []
        for start, stop in pairwise((0, middle, sizes[axis])):
            part = slice(start, stop)
            parts.append(
                score_groups(
                    image,
                    recipe,
                    (photos[part], photos[:, part], photos)[axis],
                    (recipes[part], recipes, recipes[:, part])[axis],
                    weights,
                    scratch_bytes=scratch_bytes,
                )
            )
        return torch.cat(parts, dim=axis)
    if not kernels:
        return plain_scores(image, recipe, photos, recipes, weights)
    with torch.cuda.device(photos.device):  # Triton launches on the current one
        return fused_scores(image, recipe, photos, recipes, weights)


def fused_scores(
    image: PackedItems,
    recipe: PackedItems,
    photos: Tensor,
    recipes: Tensor,
    weights: FoldedWeights,
) -> Tensor:
    """Compute S_local of every photo with every recipe of its group, by one launch of each kernel.

    Args:
        image: as of `score_groups`, like all that follow.
        recipe: the recipes.
        photos: (G, B) int64 positions.
        recipes: (G, M) int64 positions.
        weights: of `kernel_weights`.

    Returns:
        (G, B, M) float32.
    """
    # Triton exists for Linux alone.
    from .attention import attend
    from .fusion import fuse
    from .matching import match
    from .tabulation import item_tables

    image_rows, recipe_rows = group_rows(image, photos), group_rows(recipe, recipes)
    image_means = fuse(
        image, recipe, image_rows, recipe_rows,
        *attend(image, recipe, image_rows, recipe_rows),
        item_tables(recipe, recipe_rows, weights.recipe),
        weights.image.fuse_bias, source_first=False,
    )  # fmt: skip
    recipe_means = fuse(
        recipe, image, recipe_rows, image_rows,
        *attend(recipe, image, recipe_rows, image_rows),
        item_tables(image, image_rows, weights.image),
        weights.recipe.fuse_bias, source_first=True,
    )  # fmt: skip
    scores = match(image_means, recipe_means, weights)
    return scores.view(*photos.shape, recipes.shape[1])


def _scratch(
    image: PackedItems, recipe: PackedItems, sizes: tuple[int, int, int], *, kernels: bool
) -> int:
    """Return the bytes that are written for one launch, at most.

    Args:
        image: the photos to choose from.
        recipe: the recipes to choose from.
        sizes: G, B, M.
        kernels: whether the kernels score them, or plain torch.
    """
    groups, photos, recipes = sizes
    width, heads, number = image.width, image.heads, image.query.element_size()
    tokens = image.longest + recipe.longest
    if not kernels:
        return groups * photos * recipes * tokens * width * 4 * FLOATS_A_TOKEN
    # Both directions' shares, agreement, means, and the MLP's parts.
    shares = 2 * image.longest * recipe.longest * heads * number
    pair = shares + 4 * heads * tokens + 2 * width * number + 4 * -(-width // 128)
    tables = sum(
        count * items.longest * heads * width * number
        for items, count in ((image, photos), (recipe, recipes))
        if items.table is None
    )
    return groups * (photos * recipes * pair + tables)


def _uses_kernels(device: torch.device, longest: int, items: PackedItems) -> bool:
    """Return whether pairs are scored by the kernels; plain torch takes what they cannot."""
    if device.type != "cuda":
        return False
    index = torch.cuda.current_device() if device.index is None else device.index
    reason = _why_not(index, longest, items.width // items.heads)
    return reason is None


@cache
def _why_not(device: int, longest: int, head: int) -> str | None:
    """Return why the kernels cannot run, and log it the first time; None where they can."""
    reason = None
    if torch.cuda.get_device_capability(device) < OLDEST_CAPABILITY:
        reason = "the GPU is older than an A100"
    elif not fits_on_chip(longest, head):
        reason = f"items of {longest} tokens of {head} features a head do not fit on its chip"
    else:
        try:
            from .launching import why_no_launch
        except ImportError:
            reason = "triton is not installed"
        else:
            reason = why_no_launch(torch.device("cuda", device))
    if reason is not None:
        _log.warning("pairs are scored by plain torch, several times slower: %s", reason)
    return reason
