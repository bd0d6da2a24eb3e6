"""What each stage has to do: multiply-adds and bytes, to hold against the machine's limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hficma.engine import Bundle
from hficma.engine.index.index import Index
from hficma.engine.index.item_encoding import Level, bytes_per_token
from hficma.model import Model
from hficma.text.vocabulary import RecipeIds

from .timing import REGIONS

CODE_BYTES = {"Flat": 4, "SQfp16": 2, "SQ8": 1}
"""Bytes an entry that a prefilter scans; graphs and lists read what the query leads them to."""
RAISED = {"tables": 0, "projections": 1, "tokens": 6}
"""Products of a token with a D x D matrix that bring an item from its level to `tables`."""


class StageCost(NamedTuple):
    """What one query asks of a stage: multiply-adds, and bytes that must be read.

    None where the stage is no arithmetic, or of an unknown amount.
    """

    multiply_adds: float | None = None
    bytes: float | None = None


def pair_multiply_adds(
    level: Level,
    *,
    width: int,
    heads: int,
    tokens: float,
    photos: int = 1,
    regions: int = REGIONS,
) -> float:
    """Return the multiply-adds of one pair's S_local in the folded form.

    Args:
        level: of the recipe's encoding; what is missing to `tables` is made for the pair.
        width: D.
        heads: H.
        tokens: T, of the recipe.
        photos: B that share what is made of the recipe.
        regions: R, of the photo.
    """
    attention = 4 * regions * tokens * width
    gather = 2 * regions * heads * tokens * width
    match = 2 * width * width + width
    return attention + gather + match + RAISED[level] * tokens * width * width / photos


def encode_cost(model: Model, recipes: list[RecipeIds]) -> StageCost:
    """Return the cost of encoding a query and bringing it to `tables`.

    Args:
        model: in torch.
        recipes: queries, over which the mean is taken; none for a photo.
    """
    if recipes:
        batches = [model.recipe_batch([recipe]) for recipe in recipes]
        branch = _counted(lambda: [model.recipe_tokens(batch) for batch in batches])
        branch /= len(recipes)
        tokens = float(np.mean([len(recipe.ingredients) for recipe in recipes]))
    else:
        size = model.image_input.size
        photo = torch.zeros(1, size, size, 3, dtype=torch.uint8, device=model.device)
        branch = _counted(lambda: model.image_tokens(model.image_features(photo)))
        tokens = float(model.region_count)
    raising = RAISED["tokens"] * tokens * model.config.width**2 if model.has_local else 0.0
    return StageCost(branch + raising)


def search_costs(index: Index, bundle: Bundle, candidates: int) -> dict[str, StageCost]:
    """Return the costs of prefilter, gather and cross branch for one query over an index."""
    entries = index.count * bundle.facts.global_dim
    code = CODE_BYTES.get(index.facts.prefilter)
    costs = {"prefilter": StageCost(entries, None if code is None else code * entries)}
    if not bundle.has_local or index.facts.level is None:
        return costs
    candidates = min(candidates, index.count)
    item_tokens = sum(shard.facts.tokens for shard in index.shards) / index.count
    width, heads = bundle.facts.width, bundle.facts.heads
    each = bytes_per_token(index.facts.level, index.facts.encoding_precision, width, heads)
    tokens = item_tokens
    if index.facts.role == "image":
        # The recipe is the query: as long as those whose photos these are, as a model reads them.
        shard = index.shards[0]
        recipes = shard.records.recipes(range(min(50, shard.count)))
        tokens = float(np.mean([min(20, len(recipe.ingredients)) for recipe in recipes.values()]))
    regions = bundle.facts.regions
    pair = pair_multiply_adds("tables", width=width, heads=heads, tokens=tokens, regions=regions)
    pair += RAISED[index.facts.level] * item_tokens * width * width
    costs["gather"] = StageCost(None, candidates * item_tokens * each)
    costs["cross branch"] = StageCost(candidates * pair)
    return costs


def _counted(run: Callable[[], object]) -> float:
    """Count the multiply-adds of what runs in torch, recurrent layers included.

    torch's counter knows products and convolutions; a GRU or LSTM is one opaque call to it.
    """
    steps = 0.0

    def recurrent(layer: nn.Module, inputs: tuple[Tensor, ...], _output: object) -> None:
        nonlocal steps
        if isinstance(layer, nn.GRU | nn.LSTM):
            gates = 3 if isinstance(layer, nn.GRU) else 4
            rows = inputs[0].shape[0] * inputs[0].shape[1]
            steps += rows * gates * layer.hidden_size * (layer.input_size + layer.hidden_size)

    handle = nn.modules.module.register_module_forward_hook(recurrent)
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run()
    finally:
        handle.remove()
    return float(counter.get_total_flops()) / 2 + steps
