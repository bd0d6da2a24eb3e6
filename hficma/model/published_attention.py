"""S_local as published: the layers of HF-ICMA one after the other, for every pair.

The reference to which the fast form of `similarity.py` is held, and the baseline that its speed is
measured against. Equation numbers are those of `similarity.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .fusion import CrossFusion
from .numerics import mean_weights, padding_bias, unit_rows


def published_scores(
    fusion: CrossFusion, image_tokens: Tensor, recipe_tokens: Tensor, lengths: Tensor, block: int
) -> Tensor:
    """Compute S_local of B photos and M recipes, in blocks of `block` x `block` pairs.

    Args:
        fusion: the weights.
        image_tokens: V1 (B, R, D).
        recipe_tokens: V2 (M, T, D); padded rows may hold anything.
        lengths: (M,) int64, ingredients of each recipe.
        block: photos and recipes computed at once; the released code uses 50.

    Returns:
        (B, M).
    """
    rows = []
    for photos in image_tokens.split(block):
        parts = [
            _block(fusion, photos, recipes, part)
            for recipes, part in zip(recipe_tokens.split(block), lengths.split(block), strict=True)
        ]
        rows.append(torch.cat(parts, dim=1))
    return torch.cat(rows)


def multiply_adds(width: int, regions: int, ingredients: int) -> int:
    """Count the multiply-adds that the published layers cost a pair.

    Args:
        width: D.
        regions: R.
        ingredients: T.
    """
    tokens = regions + ingredients
    linears = 4 * tokens * width * width  # L1 to L4; the layers K run once per item
    attention = 4 * regions * ingredients * width
    fuse = 2 * tokens * width * width
    match = 2 * width * width + width
    return linears + attention + fuse + match


def _block(fusion: CrossFusion, photos: Tensor, recipes: Tensor, lengths: Tensor) -> Tensor:
    """Compute S_local (B, M) of V1 (B, R, D) with V2 (M, T, D), every pair by itself."""
    count, regions, width = photos.shape
    others, ingredients, _ = recipes.shape
    # Every pair has its own copy of both items' tokens: (B, M, R, D) and (B, M, T, D).
    v1 = photos[:, None].expand(count, others, regions, width)
    v2 = recipes[None].expand(count, others, ingredients, width)
    k1 = fusion.image_key(photos)[:, None].expand_as(v1)
    k2 = fusion.recipe_key(recipes)[None].expand_as(v2)
    padding = padding_bias(lengths, ingredients, photos.dtype)[None, :, None, None]
    c1 = _gated(v1, _attention(fusion, k1, k2, v2, padding), fusion.image_fuse)
    c2 = _gated(v2, _attention(fusion, k2, k1, v1, None), fusion.recipe_fuse)
    # (6): a mean over regions, and over the ingredients that are no padding.
    recipe_weights = mean_weights(lengths, ingredients, photos.dtype)[None, :, :, None]
    mean1, mean2 = c1.mean(dim=2), (c2 * recipe_weights).sum(dim=2)  # (B, M, D) each
    hidden = fusion.match_hidden(torch.cat([unit_rows(mean1), unit_rows(mean2)], dim=-1)).relu()
    scores: Tensor = torch.sigmoid(fusion.match_output(hidden))[..., 0]  # (7)
    return scores


def _attention(
    fusion: CrossFusion, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None
) -> Tensor:
    """Compute L4(X) of (1) to (3): multi-head attention of (..., n, D) on (..., o, D)."""

    def heads(layer: nn.Linear, tokens: Tensor) -> Tensor:
        """(..., L, D) -> (..., H, L, D / H)."""
        features: Tensor = layer(tokens)
        return features.view(*features.shape[:-1], fusion.heads, -1).transpose(-2, -3)

    q = heads(fusion.attention_query, query)
    k = heads(fusion.attention_key, key)
    u = heads(fusion.attention_value, value)
    logits = q @ k.mT / q.shape[-1] ** 0.5  # (..., H, n, o)
    if padding is not None:
        logits = logits + padding
    read = (torch.softmax(logits, dim=-1) @ u).transpose(-2, -3).flatten(-2)  # X (..., n, D)
    result: Tensor = fusion.attention_output(read)
    return result


def _gated(tokens: Tensor, read: Tensor, fuse: nn.Linear) -> Tensor:
    """Compute C of (4) and (5) from V and L4(X), each (..., n, D)."""
    gate = torch.sigmoid((tokens * read).sum(dim=-1, keepdim=True))
    fused: Tensor = fuse(torch.cat([tokens, read], dim=-1) * gate)
    return fused.relu() + tokens
