"""The fast form against the published formulas, in value and in every gradient."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hficma.model import HFICMA, RecipeBatch
from hficma.model.encoders.image.features import mean_pooled
from hficma.model.similarity import tabulate
from hficma.model.tiling import pair_scores
from tests.model import published
from tests.model.factories import published_model, random_recipes, random_regions

sizes = st.sampled_from([(4, 1), (8, 2), (12, 3), (16, 4)])


def plain_scores(
    model: HFICMA, regions: torch.Tensor, recipes: RecipeBatch, state: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    rows = []
    for photo in regions:
        for t, n, ids, sentences in zip(
            recipes.ingredient_counts,
            recipes.sentence_counts,
            recipes.ingredients,
            recipes.sentences,
            strict=True,
        ):
            rows.append(
                torch.stack(
                    published.score(
                        state,
                        model.cross_fusion,
                        list(photo),
                        ids[:t].tolist(),
                        list(sentences[:n]),
                    )
                )
            )
    scores = torch.stack(rows).view(len(regions), len(recipes.ingredients), 3)
    return scores[..., 0], scores[..., 1], scores[..., 2]


@settings(max_examples=12, deadline=None)
@given(size=sizes, seed=st.integers(0, 10_000), slots=st.integers(1, 5), regions=st.integers(1, 6))
def test_scores_equal_the_published_formulas(
    size: tuple[int, int], seed: int, slots: int, regions: int
) -> None:
    """A wrong fold, mask, head split or mean would show in S, S_global or S_local."""
    width, heads = size
    model = published_model(width, heads, seed)
    photos = random_regions(2, 2 * width, seed, regions=regions)
    recipes = random_recipes([(slots, slots + 1), (max(1, slots - 1), 1)], width, seed)
    expected = plain_scores(model, photos, recipes, model.state_dict())
    with torch.no_grad():
        wide = model.score(model.image_tokens(mean_pooled(photos)), model.recipe_tokens(recipes))
        single = copy.deepcopy(model).float()
        narrow = single.score(
            single.image_tokens(mean_pooled(photos.float())),
            single.recipe_tokens(recipes._replace(sentences=recipes.sentences.float())),
        )
    for got, want in zip(wide, expected, strict=True):
        torch.testing.assert_close(got, want, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(narrow.local, expected[2].float(), atol=1e-5, rtol=0)
    spread = expected[1].abs().max().clamp_min(1)
    assert ((narrow.global_ - expected[1]).abs().max() / spread) < 1e-5


@pytest.mark.parametrize("tile", [None, 1, 3])
def test_every_gradient_equals_the_published_one(tile: int | None) -> None:
    """A detached or doubly counted term would leave values right and training wrong."""
    model = published_model(8, 2, 3)
    photos = random_regions(2, 16, 1, regions=3).requires_grad_()
    recipes = random_recipes([(3, 2), (2, 4)], 8, 2)
    recipes = recipes._replace(sentences=recipes.sentences.requires_grad_())
    weight = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)
    names = [
        name for name, _ in model.named_parameters() if not name.startswith("sentence_encoder")
    ]
    parameters = dict(model.named_parameters())
    leaves = [parameters[name] for name in names] + [photos, recipes.sentences]

    total = model.score(
        model.image_tokens(mean_pooled(photos)), model.recipe_tokens(recipes), tile=tile
    ).total
    fast = torch.autograd.grad((total * weight).sum(), leaves)
    state = {name: parameters.get(name, value) for name, value in model.state_dict().items()}
    plain = torch.autograd.grad(
        (plain_scores(model, photos, recipes, state)[0] * weight).sum(), leaves
    )
    assert any(gradient.abs().max() > 0 for gradient in plain)
    for name, got, want in zip([*names, "photos", "sentences"], fast, plain, strict=True):
        torch.testing.assert_close(
            got, want, atol=1e-8, rtol=1e-8, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_all_twenty_slots_full_is_the_case_that_was_published() -> None:
    """The released code divides by 20 slots; with all of them full both means agree."""
    model = published_model(8, 2, 11)
    photos = random_regions(1, 16, 5, regions=49)
    recipes = random_recipes([(20, 20)], 8, 6)
    expected = plain_scores(model, photos, recipes, model.state_dict())
    with torch.no_grad():
        got = model.score(model.image_tokens(mean_pooled(photos)), model.recipe_tokens(recipes))
    torch.testing.assert_close(got.total, expected[0], atol=1e-12, rtol=1e-12)


def test_levels_blocks_and_candidates_give_one_score() -> None:
    """The level of the encodings and the form of the call are cost, never a different answer."""
    model = published_model(16, 4, 2)
    weights = model.fold()
    photos = random_regions(3, 32, 1)
    recipes = random_recipes([(1, 1), (20, 3), (7, 20), (2, 2), (9, 1)], 16, 4)
    with torch.no_grad():
        image_tokens, recipe_tokens = (
            model.image_tokens(mean_pooled(photos)),
            model.recipe_tokens(recipes),
        )
        image, recipe = model.project_image(image_tokens), model.project_recipe(recipe_tokens)
        block = pair_scores(image, recipe, weights)
        tables = pair_scores(
            tabulate(image, weights.image), tabulate(recipe, weights.recipe), weights, tile=2
        )
        candidates = torch.tensor([[4, 0], [1, 1], [3, 2]])
        pairs = pair_scores(image, recipe, weights, candidates=candidates)
    torch.testing.assert_close(tables, block, atol=1e-14, rtol=0)
    torch.testing.assert_close(pairs, block.gather(1, candidates), atol=1e-14, rtol=0)
