"""What the recipe head of a model reads of recipes: the means of their fields' vectors."""

from __future__ import annotations

import hashlib
import json

from torch import Tensor

from hficma.artifacts.content_digests import code_digest
from hficma.model import HFICMA, DualEncoder, Model, RecipeBatch
from hficma.model.dual import RecipeFields


def recipe_fields(model: Model) -> RecipeFields:
    """Return what makes a recipe's global vector, of a model of `global_text: fields`."""
    assert isinstance(model, HFICMA | DualEncoder)
    assert isinstance(model.recipe_global, RecipeFields)
    return model.recipe_global


def recipe_means(model: Model, batch: RecipeBatch) -> list[tuple[Tensor, Tensor]]:
    """Return what the recipe head reads of M recipes; see `RecipeFields.field_means`."""
    has_words = model.ingredient_words is not None
    words = model.ingredient_vectors(batch.ingredients) if has_words else None
    return recipe_fields(model).field_means(words, batch)


def recipe_means_digest(model: Model) -> str:
    """Return a digest of all that `recipe_means` follow from, but for the recipes."""
    tokenizer, digest = model.tokenizer, hashlib.sha256()
    code = code_digest(
        __name__, "hficma.model.base", "hficma.model.encoders", "hficma.model.dual",
        "hficma.recipe", "hficma.text", packages=("torch",),
    )  # fmt: skip
    text = None if tokenizer.text_tokenizer is None else tokenizer.text_tokenizer.digest
    # Devices round differently: what one has encoded is not to the bit what another would.
    record = [code, model.config.text.to_json(), tokenizer.vocabulary.words, text]
    digest.update(json.dumps([*record, model.device.type], sort_keys=True).encode())
    encoders = ("sentence_encoder.", "text_encoder.", "ingredient_words.")
    for name, value in sorted(model.state_dict().items()):
        if name.startswith(encoders):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
