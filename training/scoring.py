"""Encode pairs and score every photo against every recipe, in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hficma.metrics import ranks
from hficma.model import Model, RecipeBatch, Tokens
from hficma.types import Floats, Positions, Ranks

PHOTO_BLOCK = 64
TILE = 256
"""Pairs computed at once: best for the small widths that are trained on a CPU."""


@dataclass(frozen=True)
class ScoreTables:
    """Scores of N photos (down) and N recipes (across)."""

    total: Floats
    """S (N, N)."""
    global_: Floats
    """S_global (N, N)."""
    local: Floats | None
    """S_local (N, N); None where S has no local part."""


@torch.inference_mode()
def encode(
    model: Model, regions: Iterable[Tensor], recipes: Iterable[RecipeBatch]
) -> tuple[Tokens, Tokens]:
    """Photos and recipes, batch by batch, to tokens in float32."""
    image = joined([model.image_tokens(batch) for batch in regions])
    recipe = joined([model.recipe_tokens(*batch) for batch in recipes])
    return image, recipe


def joined(batches: list[Tokens]) -> Tokens:
    """Batches of tokens as one, padded to the longest, in float32."""
    lengths = torch.cat([batch.lengths for batch in batches])
    tokens = [batch.tokens for batch in batches if batch.tokens is not None]
    longest = max((one.shape[1] for one in tokens), default=0)
    parts = [F.pad(one.float(), (0, 0, 0, longest - one.shape[1])) for one in tokens]
    return Tokens(
        torch.cat([batch.global_.float() for batch in batches]),
        torch.cat(parts) if parts else None,
        lengths,
    )


def chosen(tokens: Tokens, items: Positions) -> Tokens:
    """The given items."""
    index = torch.from_numpy(items).to(tokens.global_.device)
    values = None if tokens.tokens is None else tokens.tokens[index]
    return Tokens(tokens.global_[index], values, tokens.lengths[index])


@torch.inference_mode()
def score_tables(
    model: Model,
    image: Tokens,
    recipe: Tokens,
    *,
    on_done: Callable[[int], None] = lambda count: None,
) -> ScoreTables:
    """S of every pair through the fast form; recipes are projected once.

    Args:
        model: in evaluation mode.
        image: N photos.
        recipe: N recipes.
        on_done: told how many photos were scored.
    """
    config = model.config
    global_: Floats = (image.global_.float() @ recipe.global_.float().T).cpu().numpy()
    if not model.has_local or config.local_weight == 0:
        return ScoreTables(config.score_weights.total(global_, None), global_, None)
    prepared = model.project_recipe(recipe)
    local = np.empty_like(global_)
    for start in range(0, len(global_), PHOTO_BLOCK):
        rows = np.arange(start, min(start + PHOTO_BLOCK, len(global_)))
        side = model.project_image(chosen(image, rows))
        local[rows] = model.pair_scores(side, prepared, tile=TILE).cpu().numpy()
        on_done(len(rows))
    return ScoreTables(config.score_weights.total(global_, local), global_, local)


def both_directions(scores: Floats) -> dict[str, Ranks]:
    """Ranks in one bag: photo to recipe, and recipe to photo."""
    return {"image_to_recipe": ranks(scores), "recipe_to_image": ranks(scores.T)}
