"""Score every photo with every recipe of a model, in blocks, by the kernels.

What an evaluation needs: no index, no candidates, B x M pairs in 16 bits, as far from float32 as
`hficma bench screening` prints for the model. Tables are made for each launch, which costs next to
nothing where many photos read them, and 2.6 times as many recipes fit into the GPU's memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from .kernels.packed_items import PackedItems, join_items, pack_items
from .kernels.pair_scores import kernel_weights, score_groups

if TYPE_CHECKING:
    from hficma.model import Model, Tokens
    from hficma.model.similarity import FoldedItemWeights

PROJECTED = 1024
"""Items that are projected at once: in float32, twice the bytes of what stays."""
PRECISION = torch.float16
BlockScores: TypeAlias = "Callable[[Tokens], Tensor]"
"""Scores B photos with all recipes: (B, M) S_local on the host or a device."""


@torch.inference_mode()
def kernel_block_scores(model: Model, recipe: Tokens) -> BlockScores:
    """Return what scores photos with M recipes, which are projected once.

    Args:
        model: of a local part, on any device: without a GPU plain torch stands in for the kernels.
        recipe: M recipes, on the model's device.
    """
    from hficma.model import HFICMA

    assert isinstance(model, HFICMA)
    folded = model.fold_in_float64()
    weights = kernel_weights(folded, PRECISION)
    heads = model.config.heads
    recipes = _packed(recipe, folded.recipe, heads, uniform=False)
    every = torch.arange(len(recipe.lengths), device=recipe.lengths.device)[None]

    @torch.inference_mode()
    def score(image: Tokens) -> Tensor:
        photos = _packed(image, folded.image, heads, uniform=True)
        block = torch.arange(len(image.lengths), device=every.device)[None]
        return score_groups(photos, recipes, block, every, weights)[0]

    return score


def _packed(items: Tokens, weights: FoldedItemWeights, heads: int, *, uniform: bool) -> PackedItems:
    """Project items, some at a time, and lay them out as the kernels read them."""
    from hficma.model.similarity import project

    assert items.tokens is not None
    exact = weights.to(dtype=torch.float32)
    parts = []
    for start in range(0, len(items.lengths), PROJECTED):
        part = items.select(slice(start, start + PROJECTED))
        assert part.tokens is not None
        encodings = project(part.tokens.float(), part.lengths, exact)
        parts.append(pack_items(encodings, PRECISION, heads=heads, uniform=uniform))
    return join_items(parts)
