"""Forms of tokens that no index stores are judged by what they are said to be."""

from __future__ import annotations

import numpy as np

from hficma.benchmarks.quality.token_forms import token_forms
from hficma.engine.index.item_encoding import bytes_per_token


def test_forms_keep_what_they_can_and_count_their_bytes() -> None:
    """A form that came back wrong would lose by a fault of the trial, not by its own."""
    rng = np.random.default_rng(0)
    lengths = np.array([4, 2])
    # Of rank 2, and each token stands there twice: both ways of being fewer lose nothing.
    few = np.abs(rng.normal(size=(2, 2))).astype(np.float32) @ np.eye(2, 64, dtype=np.float32)
    few /= np.linalg.norm(few, axis=1, keepdims=True)
    tokens = np.zeros((2, 4, 64), np.float32)
    tokens[0], tokens[1, :2] = few[[0, 1, 0, 1]], few[[1, 1]]
    forms = {form.name: form for form in token_forms(tokens, lengths, (256,), 9)}
    rank = forms["rank D / 8, int8"]
    np.testing.assert_allclose(rank.tokens, tokens, atol=0.02)
    assert rank.bytes == {256: 9 * bytes_per_token("tokens", "int8", 32, 1)}
    half = forms["pooled to half, int8"]
    assert half.lengths.tolist() == [2, 1]
    assert half.bytes == {256: 4.5 * bytes_per_token("tokens", "int8", 256, 1)}
    pooled = half.tokens[0, :2]
    assert sorted(np.round(pooled @ few.T, 2).max(axis=0)) == [1.0, 1.0]
    np.testing.assert_allclose(half.tokens[1, 0], few[1], atol=0.02)
