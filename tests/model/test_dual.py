"""Dual encoders, and heads over the fields of a recipe."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hficma.model import DualEncoder, HeadConfig, ModelConfig
from hficma.model.dual import RecipeFields
from hficma.model.encoders.heads import Centred, Head
from hficma.model.encoders.image.features import mean_pooled
from hficma.recipe import Recipe
from hficma.text.batching import BATCH_IDS
from hficma.text.vocabulary import TextConfig
from tests.model.factories import make_model, random_recipes, random_regions, tiny_config

FIELDS = {"global_text": "fields", "global_similarity": "cosine"}


def test_a_recipe_is_the_means_of_its_fields_through_the_head() -> None:
    """The reference, recipe by recipe in plain means; absent fields are zeros, not the mean's."""
    model = make_model("dual", recipe_head=HeadConfig(layers="mlp", hidden=5), **FIELDS).double()
    assert isinstance(model, DualEncoder)
    for part in model.recipe_global.head.parts:
        part.mean.normal_()
    recipes = random_recipes([(3, 4), (1, 1), (6, 2)], 8, 0)
    read = model.recipe_tokens(recipes).global_
    first, last = model.recipe_global.head.layers
    for number in range(3):
        sentences = recipes.sentences[number, : recipes.sentence_counts[number]]
        titles = recipes.title_counts[number]
        ingredients = recipes.ingredients[number, : recipes.ingredient_counts[number]]
        fields = [sentences[:titles], model.ingredient_words(ingredients), sentences[titles:]]
        parts = []
        for field, part in zip(fields, model.recipe_global.head.parts, strict=True):
            rest = field.mean(dim=0) - part.mean
            parts.append(rest / rest.norm() * 8**0.5 if len(field) else torch.zeros_like(rest))
        expected = F.normalize(last(F.gelu(first(torch.cat(parts)))), dim=0)
        torch.testing.assert_close(read[number], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["dual", "hf-icma"])
def test_padding_changes_no_vector(kind: str) -> None:
    """A recipe's vector is its own, whatever stands beside it in a batch."""
    model = make_model(kind, **FIELDS).double()
    recipes = random_recipes([(3, 4), (2, 2)], 8, 0)
    wide = random_recipes([(3, 4), (2, 2)], 8, 0, slots=(9, 11))
    padded = model.recipe_tokens(wide).global_
    torch.testing.assert_close(padded, model.recipe_tokens(recipes).global_, atol=1e-12, rtol=0)
    alone = model.recipe_tokens(recipes.select(slice(1))).global_
    torch.testing.assert_close(padded[:1], alone, atol=1e-12, rtol=0)


def test_hf_icma_shares_the_heads_and_keeps_its_local_part() -> None:
    """With the same weights the global part is a dual encoder's to the bit; S_local beside it."""
    dual, both = make_model("dual", **FIELDS).double(), make_model(**FIELDS).double()
    assert isinstance(both.recipe_global, RecipeFields)
    state = {**both.state_dict(), **dual.state_dict()}
    assert state.keys() == both.state_dict().keys()  # a dual encoder has no other weights
    both.load_state_dict(state)
    photos, recipes = random_regions(2, 192, 0), random_recipes([(3, 4), (1, 1)], 8, 0)
    alone = dual.score(dual.image_tokens(mean_pooled(photos)), dual.recipe_tokens(recipes))
    beside = both.score(both.image_tokens(mean_pooled(photos)), both.recipe_tokens(recipes))
    assert torch.equal(alone.total, alone.global_)
    assert torch.equal(alone.global_, beside.global_)
    assert alone.local is None
    assert beside.local is not None


def test_centred_vectors_have_the_length_of_unit_variance() -> None:
    """What all have in common is gone; zeros stay zeros where a field is not there."""
    centred = Centred(16)
    centred.mean += 3
    vectors = torch.randn(5, 16) + 3
    result = centred(vectors, torch.tensor([1, 1, 0, 1, 1]))
    assert result[2].abs().sum() == 0
    torch.testing.assert_close(result[[0, 1, 3, 4]].norm(dim=1), torch.full((4,), 4.0))


def test_without_layers_vectors_are_as_they_come() -> None:
    """CLIP's two towers share a space already: nothing stands between them and the cosine."""
    head = Head(HeadConfig(layers="none"), [4], None, cosine=True)
    vectors = torch.randn(3, 4)
    assert not head.state_dict()
    torch.testing.assert_close(head([vectors], [None]), F.normalize(vectors, dim=1))


def test_options_that_do_not_fit_are_named() -> None:
    """Each would otherwise fail in a matrix product, or train something else than it says."""
    for options, word in (
        ({"kind": "dual"}, "global_text"),
        ({"kind": "adamine", "global_text": "fields"}, "global_text"),
        ({"kind": "dual", "global_text": "fields"}, "global_dim"),
    ):
        with pytest.raises(ValueError, match=word):
            ModelConfig(**options)  # type: ignore[arg-type]


def test_options_survive_json() -> None:
    config = tiny_config("dual", image_head=HeadConfig(layers="mlp", hidden=3), **FIELDS)
    assert ModelConfig.from_json(config.to_json()) == config
    assert "image_head" not in tiny_config().to_json()


def test_words_of_ingredient_lines_are_a_field_of_their_own() -> None:
    """The reference: title, all words of the lines, and the steps, each by its place."""
    config = {"text": TextConfig(unit="field"), **FIELDS}
    model = make_model("dual", **config).double()
    assert isinstance(model, DualEncoder)
    assert model.ingredient_words is None, "a second table of words, which nothing reads"
    recipes = random_recipes([(1, 4), (1, 3)], 8, 0)
    recipes.sentences[1, 2] = 0  # a recipe without a known word among its ingredients
    means, present = zip(*model.recipe_global.field_means(None, recipes), strict=True)
    for number, end in enumerate((3, 2)):
        titles = int(recipes.title_counts[number])
        sentences = recipes.sentences[number]
        fields = sentences[:titles], sentences[end : end + 1], sentences[titles:end]
        for field, mean, there in zip(fields, means, present, strict=True):
            torch.testing.assert_close(mean[number], field.mean(dim=0), atol=1e-12, rtol=0)
            assert bool(there[number]) == bool(field.abs().sum() > 0)


def test_one_long_text_does_not_pad_the_batch() -> None:
    """256 recipes padded to one that is a novel took gigabytes; the vectors are the same."""
    model = make_model("dual", **FIELDS, text=TextConfig(unit="field"))
    shapes = []

    def note(_: object, arguments: tuple[torch.Tensor, torch.Tensor]) -> None:
        shapes.append(arguments[0].shape)

    assert model.sentence_encoder is not None
    model.sentence_encoder.register_forward_pre_hook(note)
    short = [
        Recipe(id=str(n), ingredients=("salt",), instructions=("Stir the soup. " * (1 + n),))
        for n in range(40)
    ]
    novel = Recipe(id="novel", ingredients=("salt",), instructions=("Stir the soup. " * 2000,))
    ids = [model.tokenizer(recipe) for recipe in (novel, *short)]
    longest = max(len(one) for recipe in ids for one in recipe.sentences)
    together = model.recipe_batch(ids)
    assert 41 * longest > BATCH_IDS, "or nothing is to be parted"
    assert max(rows * width for rows, width in shapes) <= max(longest, BATCH_IDS)
    for number in (0, 1, 8):
        alone = model.recipe_batch([ids[number]]).sentences[0]
        torch.testing.assert_close(together.sentences[number, : len(alone)], alone)
