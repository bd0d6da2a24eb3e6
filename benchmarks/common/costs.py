"""What each stage has to do: multiply-adds and bytes, to hold against the machine's limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hficma.engine import Bundle
from hficma.engine.index.index import Index
from hficma.engine.index.item_encoding import bytes_per_token
from hficma.images import CROP
from hficma.model import Model
from hficma.text.vocabulary import RecipeIds

from .timing import REGIONS

CODE_BYTES = {"Flat": 4, "SQfp16": 2, "SQ8": 1}
"""Bytes an entry that a prefilter scans; graphs and lists read what the query leads them to."""


class Work(NamedTuple):
    """Of one query."""

    multiply_adds: float | None = None
    """None where the stage is no arithmetic, or of an unknown amount."""
    bytes: float | None = None
    """Bytes that must be read."""


def photo_work(model: Model) -> dict[str, Work]:
    """The image branch, and raising its tokens to tables."""
    photo = torch.zeros(1, CROP, CROP, 3, dtype=torch.uint8, device=model.device)
    work = {"image branch": Work(_counted(lambda: model.image_tokens(model.regions(photo))))}
    if model.has_local:
        work["project"] = Work(6.0 * REGIONS * model.config.width**2)
    return work


def recipe_work(model: Model, recipes: list[RecipeIds]) -> dict[str, Work]:
    """The recipe branch's two graphs and raising its tokens, a mean over recipes."""
    sentences, branch = [], []
    for recipe in recipes:
        vectors: list[Any] = []
        sentences.append(_counted(lambda: vectors.append(model.recipe_batch([recipe]))))  # noqa: B023
        batch = vectors[0]
        branch.append(_counted(lambda: model.recipe_tokens(*batch)))  # noqa: B023
    work = {
        "sentence": Work(float(np.mean(sentences))),
        "recipe branch": Work(float(np.mean(branch))),
    }
    if model.has_local:
        slots = float(np.mean([len(recipe.ingredients) for recipe in recipes]))
        work["project"] = Work(6.0 * slots * model.config.width**2)
    return work


def search_work(index: Index, bundle: Bundle, candidates: int) -> dict[str, Work]:
    """Prefilter, gather and cross branch for one query over an index."""
    facts, vectors = bundle.facts, index.count * bundle.facts.global_dim
    code = CODE_BYTES.get(index.facts.prefilter)
    work = {"prefilter": Work(vectors, None if code is None else code * vectors)}
    if not bundle.has_local or index.facts.level is None:
        return work
    candidates = min(candidates, index.count)
    tokens = sum(shard.facts.tokens for shard in index.shards) / index.count
    width, heads = facts.width, facts.heads
    each = bytes_per_token(index.facts.level, index.facts.encoding_precision, width, heads)
    slots = tokens if index.facts.role == "recipe" else _typical_slots(index)
    pair = 4 * REGIONS * slots * width + 2 * REGIONS * heads * slots * width
    pair += 2 * width * width + width
    # Below `tables`, the item's own table is made for the pair, and below that its projections.
    raised = {"tables": 0, "projections": 1, "tokens": 6}[index.facts.level]
    pair += raised * tokens * width * width
    work["gather"] = Work(None, candidates * tokens * each)
    work["cross branch"] = Work(candidates * pair)
    return work


def limit_share(work: Work, seconds: float, *, multiply_adds: float, bandwidth: float) -> float:
    """How near a stage comes to the machine: the time its work must take over what it took.

    Args:
        work: of the stage.
        seconds: it took.
        multiply_adds: of the machine, a second.
        bandwidth: of the machine, bytes a second.
    """
    least = max((work.multiply_adds or 0.0) / multiply_adds, (work.bytes or 0.0) / bandwidth)
    return least / seconds


def _typical_slots(index: Index) -> float:
    """Ingredients of the recipes whose photos these are, within what a model reads."""
    shard = index.shards[0]
    recipes = shard.records.recipes(range(min(50, shard.count)))
    return float(np.mean([min(20, len(recipe.ingredients)) for recipe in recipes.values()]))


def _counted(run: Callable[[], object]) -> float:
    """Multiply-adds of what runs in torch, recurrent layers included."""
    steps = 0.0

    def recurrent(layer: nn.Module, inputs: tuple[Tensor, ...], _: object) -> None:
        nonlocal steps
        assert isinstance(layer, nn.GRU | nn.LSTM)
        gates = 3 if isinstance(layer, nn.GRU) else 4
        rows = inputs[0].shape[0] * inputs[0].shape[1]
        steps += rows * gates * layer.hidden_size * (layer.input_size + layer.hidden_size)

    handle = nn.modules.module.register_module_forward_hook(
        lambda layer, inputs, output: (
            recurrent(layer, inputs, output) if isinstance(layer, nn.GRU | nn.LSTM) else None
        )
    )
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run()
    finally:
        handle.remove()
    return float(counter.get_total_flops()) / 2 + steps
