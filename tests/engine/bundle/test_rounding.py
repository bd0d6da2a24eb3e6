"""The scale of a model's roundings: that of its weights, wherever they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hficma.engine import Bundle
from hficma.engine.bundle.rounding import RoundedWeights, bundle_rounding_scale, rounding_scale


def random_weights(width: int, heads: int) -> RoundedWeights:
    """Weights of no model."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return RoundedWeights(
        heads,
        normal(width, 5 * width),
        normal(width, 5 * width),
        normal(2 * width, width),
        normal(width),
    )


def test_attention_counts_as_its_logits_on_random_tokens() -> None:
    """The norm of a product is taken from smaller products; here the logits are drawn."""
    width, heads = 32, 4
    weights = random_weights(width, heads)
    rng = np.random.default_rng(1)
    tokens = rng.normal(size=(2, 4000, width))
    tokens /= np.linalg.norm(tokens, axis=-1, keepdims=True)
    largest = 0.0
    for reader, source in (
        (weights.image_projection, weights.recipe_projection),
        (weights.recipe_projection, weights.image_projection),
    ):
        query = (tokens[0] @ reader[:, :width]).reshape(-1, heads, width // heads)
        key = (tokens[1] @ source[:, width : 2 * width]).reshape(query.shape)
        logits = (query * key).sum(axis=-1) / (width / heads) ** 0.5
        largest = max(largest, float((logits**2).mean(axis=0).max() ** 0.5))
    hidden = np.linalg.norm(np.diag(weights.match_output) @ weights.match_hidden.T)
    expected = (1 + largest) * hidden / width**0.5
    assert rounding_scale(weights) == pytest.approx(expected, rel=0.03)


def test_a_bundle_has_the_scale_of_its_model(hf_icma_bundle: Path) -> None:
    """A product of a graph that is taken for another would make ε anything."""
    torch = pytest.importorskip("torch", reason="folds the model's weights")
    from hficma.benchmarks.kernels.screening import scale_of
    from hficma.engine.gpu.weights import folded_weights

    with Bundle.open(hf_icma_bundle) as bundle:
        expected = scale_of(folded_weights(bundle, torch.device("cpu")))
        assert bundle_rounding_scale(bundle) == pytest.approx(expected, rel=1e-5)
