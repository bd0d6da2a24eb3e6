"""Whole blocks by the kernels are the tables that an evaluation makes in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hficma.engine.gpu import exhaustive
from hficma.engine.gpu.exhaustive import kernel_block_scores
from hficma.model import Tokens
from hficma.model.numerics import unit_rows
from hficma.training.scoring import score_tables
from tests.engine.gpu.devices import DEVICES
from tests.model.factories import make_model


@pytest.mark.parametrize("device", DEVICES)
def test_blocks_are_scored_as_in_float32(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts in which recipes are projected, and photos scored, must not show in a table."""
    monkeypatch.setattr(exhaustive, "PROJECTED", 4)
    monkeypatch.setattr("hficma.training.scoring.PHOTO_BLOCK", 5)
    torch.manual_seed(0)
    model = make_model(width=32, heads=4).to(device)
    image, recipe = (
        tokens(count, longest, device) for count, longest in ((11, model.region_count), (9, 20))
    )
    expected = score_tables(model, image, recipe)
    result = score_tables(model, image, recipe, scorer=kernel_block_scores)
    assert expected.local is not None
    assert result.local is not None
    assert 0 < np.abs(result.local - expected.local).max() < 1e-3
    np.testing.assert_array_equal(result.global_, expected.global_)


def tokens(count: int, longest: int, device: str) -> Tokens:
    """Photos of all regions, or recipes of fewer ingredients."""
    lengths = torch.randint(1, longest + 1, (count,)) if longest == 20 else None
    if lengths is None:
        lengths = torch.full((count,), longest)
    rows = unit_rows(torch.randn(count, longest, 32))
    rows *= (torch.arange(longest) < lengths[:, None])[..., None]
    vectors = unit_rows(torch.randn(count, 8))
    return Tokens(*(array.to(device) for array in (vectors, rows, lengths)))
