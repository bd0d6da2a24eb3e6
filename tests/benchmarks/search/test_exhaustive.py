"""Whole blocks are scored by what `hficma eval` calls, and their time is reckoned from them."""

from __future__ import annotations

import pytest
import torch

from hficma.benchmarks.common.synthetic_index import WORDS, random_model
from hficma.benchmarks.search import exhaustive
from hficma.model import Model
from hficma.model.config import ImageConfig, ModelConfig


def tiny_model() -> Model:
    config = ModelConfig(
        width=32, heads=4, image=ImageConfig(encoder="tiny"), global_dim=32, word_dim=8,
        sentence="mean",
    )  # fmt: skip
    return random_model(config, WORDS)


def test_blocks_hold_the_model_s_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate of fewer pairs than it counts, or of items without tokens, would be a boast."""
    blocks: list[tuple[int, ...]] = []
    whole = exhaustive.block_scores

    def watched(model: Model, recipe: object) -> object:
        score = whole(model, recipe)  # type: ignore[arg-type]

        def count(image: object) -> torch.Tensor:
            result = score(image)  # type: ignore[arg-type]
            blocks.append(tuple(result.shape))
            assert result.isfinite().all()
            return result

        return count

    monkeypatch.setattr(exhaustive, "block_scores", watched)
    lengths = [3, 9, 20, 1, 7]
    table = exhaustive.exhaustive_table(tiny_model(), lengths, most=2, seconds=30.0)
    assert blocks == [(5, 5)] * 3  # one warms up
    [row] = table.rows
    assert "5 photos x 5 recipes, 2 blocks" in row.name
    rate, seconds = row.cells["rate"], row.cells["seconds"]
    assert rate is not None
    assert seconds is not None
    assert seconds.value == pytest.approx(25 / rate.value)
