"""A limit on S_local is part of a model, and a model without one is the model it was."""

from __future__ import annotations

import pytest

from hficma.model.config import ModelConfig


def test_a_limit_is_part_of_the_model_and_none_is_not() -> None:
    """Every older model would otherwise get another `model_id`, and lose its indexes."""
    assert "local_limit" not in ModelConfig().to_json()
    limited = ModelConfig(local_limit=0.7)
    assert ModelConfig.from_json(limited.to_json()) == limited
    assert limited.score_weights.total(0.0, 1.0) == pytest.approx(0.8 * 0.7)


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1, float("nan"), float("inf")])
def test_a_limit_that_is_no_share_is_refused(limit: float) -> None:
    """Of a limit above 1 the certificate's bound would still be true, of 0 there is no S_local."""
    with pytest.raises(ValueError, match="local_limit"):
        ModelConfig(local_limit=limit)
