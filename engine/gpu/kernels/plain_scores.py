"""S_local of groups of pairs in plain torch: what the kernels are held to, and stands in for them.

The same numbers are rounded to the precision of the wide arrays at the same places as in the
kernels, and sums are float32: on torch's CPU device a screen in 16 bits is as wrong as on a GPU.
With wide arrays in float32 nothing is rounded, and this is `hficma.model.similarity.pair_block`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hficma.model.numerics import mean_weights
from hficma.model.similarity import (
    FoldedItemWeights,
    FoldedWeights,
    PaddedEncodings,
    attend,
    match_score,
    tabulate,
)

from .packed_items import PackedItems, unpack_items

FLOATS_A_TOKEN = 6
"""Numbers of D entries a token that one pair takes at most here, of either item."""


def plain_scores(
    image: PackedItems,
    recipe: PackedItems,
    photos: Tensor,
    recipes: Tensor,
    weights: FoldedWeights,
) -> Tensor:
    """Compute S_local of every photo with every recipe of its group; see `score_groups`."""
    photo_items = _with_tables(image, photos, weights.image)
    recipe_items = _with_tables(recipe, recipes, weights.recipe)
    precision = image.query.dtype
    image_means = _means(photo_items, recipe_items, weights.image, precision)
    recipe_means = _means(recipe_items, photo_items, weights.recipe, precision)
    wide = weights._replace(match_hidden=weights.match_hidden.float())
    return match_score(image_means.transpose(1, 2), recipe_means, wide)


def _with_tables(packed: PackedItems, items: Tensor, weights: FoldedItemWeights) -> PaddedEncodings:
    """Return items (G, N) padded, at `tables`, whose tables are rounded as stored ones are."""
    encodings = unpack_items(packed, items.flatten())
    if encodings.table is None:
        encodings = tabulate(encodings, weights._replace(table=weights.table.float()))
        assert encodings.table is not None
        encodings.table.copy_(encodings.table.to(packed.value.dtype))
    return encodings.grouped((items.shape[0], items.shape[1]))


def _means(
    reader: PaddedEncodings,
    source: PaddedEncodings,
    weights: FoldedItemWeights,
    precision: torch.dtype,
) -> Tensor:
    """Compute c of (6): reader (G, N, n, ...), source (G, O, o, ...) -> (G, O, N, D)."""
    assert source.table is not None

    def rounded(numbers: Tensor) -> Tensor:
        return numbers.to(precision).float()

    groups, count, size, width = reader.fuse.shape
    others, heads, tokens = source.table.shape[1:4]
    attention, gate = attend(reader, source, heads)
    # (G, H, N, n, O, o) -> (G O, N n, H o), times (G O, H o, D).
    shares = rounded(attention).permute(0, 4, 2, 3, 1, 5)
    shares = shares.reshape(groups * others, count * size, heads * tokens)
    gathered = shares @ source.table.reshape(groups * others, heads * tokens, width)
    gathered = gathered.view(groups, others, count, size, width)
    opened = gate.permute(0, 3, 1, 2)[..., None]  # (G, O, N, n, 1)
    fused = rounded(torch.relu(opened * (reader.fuse[:, None] + gathered) + weights.fuse_bias))
    means = mean_weights(reader.lengths, size, fused.dtype)  # (G, N, n)
    return rounded((means[:, None, :, None] @ fused)[..., 0, :] + reader.mean[:, None])
