"""S is one formula, to the last bit, whatever it is computed in."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hficma.scores import ScoreWeights

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_and_tensors_give_the_same_bits(dtype: type) -> None:
    """Training, graphs and engine would each rank by a score of their own."""
    torch = pytest.importorskip("torch", reason="tensors are torch's")
    rng = np.random.default_rng(0)
    global_, local = rng.normal(size=(2, 1000)).astype(dtype)
    weights = ScoreWeights(0.2, 0.8)
    array = weights.total(global_, local)
    tensor = weights.total(torch.from_numpy(global_), torch.from_numpy(local))
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, dtype(0.2) * global_ + dtype(0.8) * local)
    np.testing.assert_array_equal(array, tensor.numpy())


def test_a_model_without_a_local_part_is_scored_by_the_global_one() -> None:
    """Its w_l of 0.8 stands in its options all the same."""
    pytest.importorskip("torch", reason="importing a model imports torch")
    from hficma.model import ModelConfig

    config = ModelConfig(kind="adamine")
    assert config.score_weights == (0.2, 0.0, 1.0)
    assert config.score_weights.total(3.0, None) == pytest.approx(0.6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("limit", [0.7, 0.1, 1e-6])
def test_more_than_the_limit_counts_as_the_limit(dtype: type, limit: float) -> None:
    """A certificate bounds items that it never saw by it; a bit above would be an open door."""
    torch = pytest.importorskip("torch", reason="tensors are torch's")
    local = np.append(np.random.default_rng(0).uniform(size=500), [0, 1, limit]).astype(dtype)
    weights = ScoreWeights(0.5, 0.5, limit)
    zeros = np.zeros_like(local)
    array = weights.total(zeros, local)
    assert array.dtype == dtype
    np.testing.assert_array_equal(
        array, weights.total(torch.from_numpy(zeros), torch.from_numpy(local)).numpy()
    )
    assert array.max() <= dtype(0.5) * dtype(limit)
    assert weights.total(0.0, 1.0) == 0.5 * limit
    below = local < limit
    np.testing.assert_array_equal(array[below], ScoreWeights(0.5, 0.5).total(zeros, local)[below])


def test_the_formula_stands_in_one_file() -> None:
    """A second copy, in another order of operations, would break certificates by a last bit."""
    product = re.compile(r"(local_weight|weights\.local)\s*\*|\*\s*(local_weight|weights\.local\b)")
    copies = [
        str(file.relative_to(ROOT))
        for folder in ("hficma", "training", "export", "engine", "benchmarks")
        for file in (ROOT / folder).rglob("*.py")
        if product.search(file.read_text(encoding="utf-8"))
    ]
    assert copies == ["engine/retrieval/certificate.py"]  # the bound's EPSILON, in units of w_l
