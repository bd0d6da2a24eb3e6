"""Validation while a run trains: both directions over one bag of its validation pairs."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from hficma.metrics import direction_record, figures
from hficma.model import Model

from .data.pairs.pairs import Pairs
from .encoding import encode
from .scoring import both_directions, score_tables

BATCH = 64
"""Pairs that are encoded at once."""


def validate(
    model: Model,
    pairs: Pairs,
    *,
    cached: bool,
    autocast: contextlib.AbstractContextManager[Any],
) -> dict[str, Any]:
    """Return medR and recall of a model on a run's validation pairs.

    Args:
        model: in evaluation mode.
        pairs: of the run.
        cached: the image encoder is as it was when the run began, so that the cache holds its
            features.
        autocast: the precision of the forward pass.

    Returns:
        by direction, the record of its figures; and `recall_sum`, R@1 + R@5 + R@10 of both.
    """
    rows = pairs.validation_sample()
    blocks = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    with torch.no_grad(), autocast:
        image, recipe = encode(
            model,
            (pairs.centre_features(model, block, cached=cached) for block in blocks),
            (pairs.texts.batch(model, block) for block in blocks),
        )
    # In float32, as they are served: in half precision many scores are the same.
    ranks = both_directions(score_tables(model, image, recipe).total)
    record: dict[str, Any] = {name: direction_record(one) for name, one in ranks.items()}
    return {**record, "recall_sum": sum(figures(one).recall_sum for one in ranks.values())}
