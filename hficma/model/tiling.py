"""S_local of many pairs: a tile at a time, so that memory stays bounded and caches stay warm.

A pair needs about L D numbers while it is scored, so B x M of them at once would need gigabytes.
Recipes are sorted by length, cut into columns and padded only to the longest of their column;
photos, which all have R tokens, are cut into rows:

                 recipes, short to long
                ┌──────┬──────┬──────┐
        photos  │ tile │ tile │ tile │      a column shares its recipes' tables
                ├──────┼──────┼──────┤      a tile is one `pair_block`
                │ tile │ tile │ tile │
                └──────┴──────┴──────┘
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .similarity import (
    FoldedWeights,
    PaddedEncodings,
    fused_means,
    match_score,
    pair_block,
    tabulate,
)

MATCH_PAIRS = 1024
"""Pairs whose means wait for the matching MLP: enough to fill a matrix product."""
TILE_PAIRS = 64
"""Pairs scored at once without gradients: enough to share a table, few enough to stay cached."""
GROUP_PAIRS = 256
"""Pairs of several groups scored at once: groups are small, and two threads idle on one."""
TILE_RECIPES = 32
"""Recipes of a tile at most: tables made on the way are the largest thing in it."""


def pair_scores(
    image: PaddedEncodings,
    recipe: PaddedEncodings,
    weights: FoldedWeights,
    *,
    candidates: Tensor | None = None,
    tile: int | None = None,
) -> Tensor:
    """Compute S_local of every photo with every recipe, or with candidates of its own.

    Args:
        image: B photos, at `projections` or `tables`.
        recipe: M recipes, at `projections` or `tables`, of any lengths.
        weights: of the same model.
        candidates: (B, K) int64 positions in `recipe`; None scores the whole block.
        tile: pairs computed at once. None: all of them when gradients are recorded,
            `TILE_PAIRS` otherwise. With gradients, each tile is computed again in the
            backward pass instead of being stored, which bounds the memory.

    Returns:
        (B, M), or (B, K) with `candidates`, in (0, 1); float32 or wider.
    """
    differentiable = (image.value, recipe.value, weights.match_output)
    recording = torch.is_grad_enabled() and any(part.requires_grad for part in differentiable)
    # Every column of tiles reads the photos' tables, so they are made once. Recipes' tables are
    # made column by column in `_tiled` and never all at once, unless gradients need them later.
    if image.table is None:
        image = tabulate(image, weights.image)
    if candidates is not None:
        rows = [
            pair_scores(
                image.select(torch.tensor([photo])), recipe.select(positions), weights, tile=tile
            )
            for photo, positions in enumerate(candidates)
        ]
        return torch.cat(rows).view(candidates.shape)
    if recording and recipe.table is None:
        recipe = tabulate(recipe, weights.recipe)
    if recording and tile is None:
        return pair_block(image.grouped((1, -1)), recipe.grouped((1, -1)), weights)[0]
    return _tiled(image, recipe, weights, tile or TILE_PAIRS, recompute=recording)


def group_scores(
    image: PaddedEncodings,
    recipe: PaddedEncodings,
    weights: FoldedWeights,
    sizes: Sequence[int],
    *,
    tile: int | None = None,
) -> list[Tensor]:
    """Compute S_local within groups of pairs: each photo of a group with each recipe of it.

    Args:
        image: B photos at `projections`, group after group.
        recipe: their B recipes.
        weights: of the same model.
        sizes: pairs of each group; B together.
        tile: pairs computed at once, one group at least, and again in the backward pass, which
            bounds the memory; None stores what the backward pass needs.

    Returns:
        for each group (size, size).
    """
    image, recipe = tabulate(image, weights.image), tabulate(recipe, weights.recipe)
    # Runs of groups of one size are one product: a block is (groups, pairs of each).
    blocks: list[tuple[int, int]] = []
    for size in sizes:
        count, last = blocks[-1] if blocks else (0, 0)
        if size == last and (count + 1) * size**2 <= (tile or GROUP_PAIRS):
            blocks[-1] = (count + 1, size)
        else:
            blocks.append((1, size))
    items = [count * size for count, size in blocks]
    scores: list[Tensor] = []
    for shape, photos, recipes in zip(blocks, image.split(items), recipe.split(items), strict=True):
        block = (photos.grouped(shape), recipes.grouped(shape), weights)
        if tile is None:
            scores += pair_block(*block)
        else:
            scores += checkpoint(pair_block, *block, use_reentrant=False)
    return scores


def _tiled(
    image: PaddedEncodings,
    recipe: PaddedEncodings,
    weights: FoldedWeights,
    tile: int,
    *,
    recompute: bool,
) -> Tensor:
    """Compute the block (B, M) in tiles of similar lengths, so that little padding is computed."""
    photos = image.lengths.shape[0]
    # About square: what a tile reads, of both kinds of items, is then least for its pairs.
    rows = max(1, min(photos, int(tile**0.5)))
    columns = max(1, min(tile // rows, TILE_RECIPES))
    order = torch.argsort(recipe.lengths, stable=True)
    # Slices of a sorted block copy nothing.
    is_sorted = bool((recipe.lengths.diff() >= 0).all())
    scores: list[Tensor] = []
    waiting: list[list[Tensor]] = []  # c_1 and c_2, each (B, columns, D), of columns not yet scored
    for left in range(0, len(order), columns):
        span = slice(left, left + columns)
        part = recipe.select(span if is_sorted else order[span])
        if part.table is None:
            part = tabulate(part, weights.recipe)
        part = part.grouped((1, -1))
        column = []
        for top in range(0, photos, rows):
            block = image.select(slice(top, top + rows)).grouped((1, -1))
            if recompute:
                means = checkpoint(fused_means, block, part, weights, use_reentrant=False)
            else:
                means = fused_means(block, part, weights)
            column.append([mean[0] for mean in means])
        waiting.append([torch.cat(parts) for parts in zip(*column, strict=True)])
        # The matching MLP reads its weights once for many pairs, not once for a tile.
        if len(waiting) * columns * photos >= MATCH_PAIRS or left + columns >= len(order):
            image_mean, recipe_mean = (
                torch.cat(parts, dim=1) for parts in zip(*waiting, strict=True)
            )
            scores.append(match_score(image_mean, recipe_mean, weights))
            waiting.clear()
    return torch.cat(scores, dim=1)[:, torch.argsort(order)]
