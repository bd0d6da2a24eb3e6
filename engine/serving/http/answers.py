"""Answers as JSON: what the routes send of an engine's answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hficma import __version__
from hficma.images import ImageInput
from hficma.recipe import Recipe
from hficma.types import Array, Floats, Pixels

from ...explain import FLAT, PairExplanation, above_even, pixels_url, shades
from ..live_index import LiveIndex
from ..options import MOST_CANDIDATES, MOST_HITS, MOST_QUERIES
from ..service import Service


def info(service: Service) -> dict[str, Any]:
    """Return what is served, and the limits.

    Args:
        service: that is asked.
    """
    options = service.options
    return {
        "version": __version__,
        "indexes": [_index_info(index) for index in service.indexes] if service.ready else [],
        "writable": options.writable,
        "limits": {
            "body_bytes": options.body_bytes,
            "deadline": options.deadline,
            "hits": MOST_HITS,
            "candidates": MOST_CANDIDATES,
            "queries": MOST_QUERIES,
        },
    }


def _index_info(index: LiveIndex) -> dict[str, Any]:
    state = index.state
    engine = state.engine
    cluster = engine.cluster_state
    return {
        **({} if cluster is None else {"cluster": cluster._asdict()}),
        "name": index.name,
        "of": index.of,
        "items": engine.index.item_count,
        "version": state.version,
        "model_id": engine.bundle.model_id,
        "has_local": engine.bundle.has_local,
        "photos": index.has_photos,
        "certifies": all(
            shard.facts.prefilter is not None and shard.facts.prefilter.bounded
            for shard in engine.index.shards
        ),
    }


def embedded(vector: Floats | str) -> dict[str, Any]:
    """Return a vector (D_g,), or an error."""
    return {"error": vector} if isinstance(vector, str) else {"vector": rounded(vector)}


def explained(
    pixels: Pixels,
    image_input: ImageInput,
    pairs: Sequence[tuple[Recipe, PairExplanation]],
) -> dict[str, Any]:
    """Return the attention of a photo and some recipes.

    Args:
        pixels: (H, W, 3) what the model sees of the photo.
        image_input: of the model: how it comes to these pixels.
        pairs: recipes with their explanations.
    """
    side = math.isqrt(pairs[0][1].on_regions.shape[1])  # regions are a square, row by row
    return {
        "rows": side,
        "columns": side,
        "seen": {
            "shape": "square" if image_input.resize == "shorter" else "all",
            "share": image_input.size / image_input.short_side,
        },
        "photo": pixels_url(pixels),
        "items": [
            {
                "id": recipe.id,
                "title": recipe.title,
                "flat": bool(above_even(pair.on_regions).max(initial=0.0) <= FLAT),
                "ingredients": [
                    {
                        "text": text,
                        "gate": round(float(gate), 4),
                        "weights": rounded(weights),
                        "shades": rounded(shades(weights)),
                    }
                    for text, gate, weights in zip(
                        pair.ingredients, pair.ingredient_gates, pair.on_regions, strict=True
                    )
                ],
                "region_gates": rounded(pair.region_gates),
                "region_weights": [rounded(row) for row in pair.on_ingredients],
            }
            for recipe, pair in pairs
        ],
    }


def rounded(values: Array) -> list[float]:
    """Return numbers with six digits: more would be rounding, and twice the bytes."""
    numbers: list[float] = [float(f"{value:.6g}") for value in np.asarray(values, np.float64)]
    return numbers
