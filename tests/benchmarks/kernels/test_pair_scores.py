"""The graph that others' figures are compared with must be the published one."""

from __future__ import annotations

import pytest
import torch

from hficma.benchmarks.common.costs import pair_multiply_adds
from hficma.benchmarks.kernels.pair_scores import measure
from hficma.engine.native.library import has_kernels
from hficma.model.encoders.image.features import mean_pooled
from hficma.model.published_attention import multiply_adds, published_scores
from hficma.model.similarity import project
from hficma.model.tiling import pair_scores
from tests.model.factories import published_model, random_recipes, random_regions


def test_the_baseline_gives_the_same_scores() -> None:
    """A baseline that computes something else, or less, would make the ratio a lie."""
    model = published_model(16, 4, 1)
    recipes = random_recipes([(3, 2), (20, 4), (1, 1)], 16, 2)
    with torch.no_grad():
        image = model.image_tokens(mean_pooled(random_regions(4, 32, 0)))
        recipe = model.recipe_tokens(recipes)
        assert image.tokens is not None
        assert recipe.tokens is not None
        for block in (1, 2, 50):
            slow = published_scores(
                model.cross_fusion, image.tokens, recipe.tokens, recipe.lengths, block
            )
            weights = model.fold()
            fast = pair_scores(
                project(image.tokens, image.lengths, weights.image),
                project(recipe.tokens, recipe.lengths, weights.recipe),
                weights,
            )
            torch.testing.assert_close(slow, fast, atol=1e-12, rtol=0)


def test_multiply_adds_are_the_stated_ones() -> None:
    """440, 43 and 22 million a pair, as README says."""
    assert multiply_adds(1024, 49, 20) / 1e6 == pytest.approx(440, abs=3)
    for level, millions in (("projections", 43), ("tables", 22)):
        steps = pair_multiply_adds(level, width=1024, heads=8, tokens=20)
        assert steps / 1e6 == pytest.approx(millions, abs=0.6)


def test_the_benchmark_measures_every_form() -> None:
    """Each row must be about the same pairs, and agree with the baseline."""
    rows, rate = measure(width=16, heads=2, photos=2, lengths=torch.tensor([1, 4, 2]), repeats=1)
    forms = [row["form"] for row in rows]
    assert forms[:5] == ["published", "tokens", "projections", "tables", "tables, torch bf16"]
    assert "tables, onnxruntime fp32" in forms
    assert ("tables, native fp32" in forms) == has_kernels()
    for row in rows:
        assert row["difference"] < (1e-2 if row["form"].endswith("bf16") else 1e-5), row["form"]
    assert rate > 0
