"""What the recipe head of a model reads of recipes: the means of their fields' vectors."""

from __future__ import annotations

from torch import Tensor

from hficma.model import HFICMA, DualEncoder, Model, RecipeBatch
from hficma.model.dual import RecipeFields


def recipe_fields(model: Model) -> RecipeFields:
    """Return what makes a recipe's global vector, of a model of `global_text: fields`."""
    assert isinstance(model, HFICMA | DualEncoder)
    assert isinstance(model.recipe_global, RecipeFields)
    return model.recipe_global


def recipe_means(model: Model, batch: RecipeBatch) -> list[tuple[Tensor, Tensor]]:
    """Return what the recipe head reads of M recipes; see `RecipeFields.field_means`."""
    assert isinstance(model, HFICMA | DualEncoder)
    embed = model.ingredient_words
    words = None if embed is None else embed(batch.ingredients)
    return recipe_fields(model).field_means(words, batch)
