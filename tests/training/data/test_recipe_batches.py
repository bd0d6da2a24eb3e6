"""Recipes as batches: what the model's own reading gives, and parts left out at random."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hficma.model import ImageConfig, Model, ModelConfig, build_model
from hficma.recipe import Recipe
from hficma.text.vocabulary import END_ID, TextConfig
from hficma.text.word_vectors import WordVectors
from hficma.training.config.options import TextOptions
from hficma.training.data import recipe_batches
from hficma.training.data.recipe_batches import RecipeTexts

WORDS = ("soup", "salt", "water", "boil", "pea", "stir")
RECIPES = (
    Recipe(id="a", title="Pea soup", ingredients=("1 pea", "salt"), instructions=("Boil. Stir.",)),
    Recipe(id="b", ingredients=("water",), instructions=("Boil the water",)),
    Recipe(id="c", ingredients=("unknown thing",)),
)


def model(
    title: Literal["instruction", "balanced"] = "instruction",
    unit: Literal["sentence", "field"] = "sentence",
) -> Model:
    rows = np.random.default_rng(0).normal(size=(len(WORDS), 8))
    config = ModelConfig(
        width=8, heads=2, image=ImageConfig(encoder="tiny"), word_dim=8, sentence="mean",
        global_dim=8, global_text="fields" if unit == "field" else "fused",
        text=TextConfig(title=title, unit=unit),
    )  # fmt: skip
    return build_model(config, WordVectors.from_rows(WORDS, (3,) * len(WORDS), rows)).eval()


@pytest.mark.parametrize("rows", [1, 2, 512])
def test_a_batch_is_what_the_model_reads_when_it_serves(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained on one reading and served another, a model loses recall for nothing.

    Sentences are encoded by length, some at a time, and must come back to their places.
    """
    monkeypatch.setattr(recipe_batches, "ENCODE_ROWS", rows)
    network = model()
    texts = RecipeTexts(RECIPES, network.tokenizer)
    served = network.recipe_batch([network.tokenizer(recipe) for recipe in RECIPES[:2]])
    for batch in (texts.batch(network, [0, 1]), _frozen(texts, network).batch(network, [0, 1])):
        for batched, expected in zip(batch, served, strict=True):
            torch.testing.assert_close(batched, expected)


def _frozen(texts: RecipeTexts, network: Model) -> RecipeTexts:
    texts.encode_sentences(network)
    return texts


def test_a_recipe_without_any_known_word_still_has_finite_tokens() -> None:
    network = model()
    batch = RecipeTexts(RECIPES, network.tokenizer).batch(network, [2])
    assert batch.ingredients.tolist() == [[END_ID]]
    tokens = network.recipe_tokens(batch)
    assert torch.isfinite(tokens.global_).all()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_never_everything_is_left_out(seed: int) -> None:
    network = model()
    texts = RecipeTexts(RECIPES, network.tokenizer)
    options = TextOptions(
        drop_title=0.9, drop_ingredients=0.9, drop_instructions=0.9, drop_items=0.5
    )
    batch = texts.batch(network, [0], options=options, generator=np.random.default_rng(seed))
    words_left = (batch.ingredients > END_ID).any() or batch.sentences.abs().sum() > 0
    assert words_left


def test_only_what_is_asked_for_is_left_out() -> None:
    network = model()
    texts = RecipeTexts(RECIPES, network.tokenizer)
    generator = np.random.default_rng(0)
    no_title = texts.batch(network, [0], options=TextOptions(drop_title=1.0), generator=generator)
    assert no_title.sentence_counts.tolist() == [2]
    no_ingredients = texts.batch(
        network, [0], options=TextOptions(drop_ingredients=1.0), generator=generator
    )
    assert no_ingredients.ingredients.tolist() == [[END_ID]]
    assert no_ingredients.sentence_counts.tolist() == [3]
    no_steps = texts.batch(
        network, [0], options=TextOptions(drop_instructions=1.0), generator=generator
    )
    assert no_steps.sentence_counts.tolist() == [1]


def test_every_copy_of_a_balanced_title_is_dropped_with_it() -> None:
    """One that stays would let the network read the title that it is to do without."""
    network = model("balanced")
    texts, generator = RecipeTexts(RECIPES, network.tokenizer), np.random.default_rng(0)
    assert texts.batch(network, [0]).sentence_counts.tolist() == [4]
    shown = texts.batch(network, [0], options=TextOptions(drop_title=1.0), generator=generator)
    steps = (
        RecipeTexts(RECIPES, model("instruction").tokenizer).batch(network, [0]).sentences[:, 1:]
    )
    torch.testing.assert_close(shown.sentences, steps)


def test_words_of_ingredient_lines_keep_their_place_when_they_are_left_out() -> None:
    """The model reads the last sentence as the ingredients': a step there would be taken for it."""
    network = model(unit="field")
    texts, generator = RecipeTexts(RECIPES, network.tokenizer), np.random.default_rng(0)
    whole = texts.batch(network, [0])
    options = TextOptions(drop_ingredients=1.0)
    shown = texts.batch(network, [0], options=options, generator=generator)
    assert shown.sentence_counts.tolist() == whole.sentence_counts.tolist() == [3]
    torch.testing.assert_close(shown.sentences[:, :2], whole.sentences[:, :2])
    assert whole.sentences[0, 2].abs().sum() > 0
    assert shown.sentences[0, 2].abs().sum() == 0
    options = TextOptions(drop_instructions=1.0)
    shown = texts.batch(network, [0], options=options, generator=generator)
    torch.testing.assert_close(shown.sentences, whole.sentences[:, [0, 2]])
