"""The published cross-attention graph, run for every pair as the released code runs it.

For comparison only: the weights are the model's own, the result equals `pair_scores`.
Multiply-adds a pair at d = 1024 with 49 regions and 20 ingredients: 440 million.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hficma.model.fusion import CrossFusion
from hficma.model.numerics import unit_rows
from hficma.model.similarity import padding_bias, token_share


def published_scores(
    fusion: CrossFusion, image_tokens: Tensor, recipe_tokens: Tensor, lengths: Tensor, block: int
) -> Tensor:
    """S_local of B photos and M recipes, in blocks of `block` x `block` pairs.

    Args:
        fusion: the weights.
        image_tokens: (B, R, d).
        recipe_tokens: (M, T, d), padded rows zero.
        lengths: (M,) ingredients of each recipe.
        block: photos and recipes computed at once; the release uses 50.

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


def multiply_adds(width: int, regions: int, slots: int) -> int:
    """Multiply-adds of one pair of the published graph."""
    tokens = regions + slots
    linears = 4 * tokens * width * width  # query, key, value, output; the K layers run once a side
    attention = 4 * regions * slots * width
    fuse = 2 * tokens * width * width
    match = 2 * width * width + width
    return linears + attention + fuse + match


def _block(fusion: CrossFusion, photos: Tensor, recipes: Tensor, lengths: Tensor) -> Tensor:
    count, regions, width = photos.shape
    others, slots, _ = recipes.shape
    v1 = photos[:, None].expand(count, others, regions, width)
    v2 = recipes[None].expand(count, others, slots, width)
    k1 = fusion.image_key(photos)[:, None].expand_as(v1)
    k2 = fusion.recipe_key(recipes)[None].expand_as(v2)
    padding = padding_bias(lengths, slots, photos.dtype)[None, :, None, None]
    w2 = _attention(fusion, k1, k2, v2, padding)
    w1 = _attention(fusion, k2, k1, v1, None)
    co1 = _gated(v1, w2, fusion.image_fuse)
    co2 = _gated(v2, w1, fusion.recipe_fuse)
    share = token_share(lengths, slots, photos.dtype)[None, :, :, None]
    joined = torch.cat([unit_rows(co1.mean(dim=2)), unit_rows((co2 * share).sum(dim=2))], dim=-1)
    hidden = fusion.match_hidden(joined).relu()
    scores: Tensor = torch.sigmoid(fusion.match_output(hidden))[..., 0]
    return scores


def _attention(
    fusion: CrossFusion, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None
) -> Tensor:
    def heads(layer: nn.Linear, x: Tensor) -> Tensor:
        y: Tensor = layer(x)
        return y.view(*y.shape[:-1], fusion.heads, -1).transpose(-2, -3)

    q = heads(fusion.attention_query, query)
    k = heads(fusion.attention_key, key)
    v = heads(fusion.attention_value, value)
    logits = q @ k.mT / q.shape[-1] ** 0.5
    if padding is not None:
        logits = logits + padding
    read = (torch.softmax(logits, dim=-1) @ v).transpose(-2, -3).flatten(-2)
    result: Tensor = fusion.attention_output(read)
    return result


def _gated(own: Tensor, read: Tensor, fuse: nn.Linear) -> Tensor:
    gate = torch.sigmoid((own * read).sum(dim=-1, keepdim=True))
    fused: Tensor = fuse(torch.cat([own, read], dim=-1) * gate)
    return fused.relu() + own
