"""Photos and recipes to vectors, tokens and sides, through a bundle's branches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hficma.images import Pixels
from hficma.text.batching import DistinctSentences, pad_ids
from hficma.text.vocabulary import RecipeIds
from hficma.types import Positions

from .index.item_encoding import LEVELS, Level, RaggedEncodings, Role

if TYPE_CHECKING:
    from .bundle.bundle import Bundle

PHOTO_BATCH = 16
RECIPE_BATCH = 64
SENTENCE_BATCH = 256


class EncodedItems(NamedTuple):
    """N photos or recipes as the branches give them."""

    vectors: npt.NDArray[np.float32]
    """(N, D_g) global vectors."""
    encodings: RaggedEncodings | None
    """At level `tokens`; None for a model without a local part."""


def encode(bundle: Bundle, contents: Sequence[RecipeIds | Pixels]) -> EncodedItems:
    """Photos or recipes, all of one kind, at least one."""
    photos = [content for content in contents if isinstance(content, np.ndarray)]
    if photos:
        return encode_photos(bundle, np.stack(photos))
    return encode_recipes(bundle, [c for c in contents if isinstance(c, RecipeIds)])


def encode_photos(bundle: Bundle, pixels: npt.NDArray[np.uint8]) -> EncodedItems:
    """Photos (N, 224, 224, 3), as `hficma.images.preprocess` gives them, N at least 1."""
    parts = [
        bundle.run("image", {"photos": pixels[start : start + PHOTO_BATCH]})
        for start in range(0, len(pixels), PHOTO_BATCH)
    ]
    vectors = np.concatenate([part["global"] for part in parts])
    if not bundle.has_local:
        return EncodedItems(vectors, None)
    tokens = np.concatenate([part["tokens"] for part in parts])
    lengths = np.full(len(tokens), tokens.shape[1], dtype=np.int64)
    return EncodedItems(vectors, RaggedEncodings(lengths, {"tokens": tokens}))


def encode_recipes(bundle: Bundle, recipes: Sequence[RecipeIds]) -> EncodedItems:
    """Recipes as the bundle's tokenizer gives them, at least one; equal sentences once."""
    sentences, rows = _sentence_vectors(bundle, recipes)
    # Neighbours of like sizes are padded little.
    order = sorted(range(len(recipes)), key=lambda i: (len(rows[i]), len(recipes[i].ingredients)))
    lengths = np.array([len(recipe.ingredients) for recipe in recipes], dtype=np.int64)
    vectors: npt.NDArray[np.float32] | None = None
    tokens: npt.NDArray[np.float32] | None = None
    for start in range(0, len(order), RECIPE_BATCH):
        batch = order[start : start + RECIPE_BATCH]
        ingredients, counts = pad_ids([recipes[i].ingredients for i in batch])
        places, sentence_counts = pad_ids([rows[i] for i in batch])
        made = bundle.run(
            "recipe",
            {
                "ingredients": ingredients,
                "ingredient_counts": counts,
                "sentences": sentences[places],
                "sentence_counts": sentence_counts,
            },
        )
        if vectors is None:
            vectors = np.empty((len(recipes), made["global"].shape[1]), np.float32)
        vectors[batch] = made["global"]
        if bundle.has_local:
            if tokens is None:
                shape = (len(recipes), int(lengths.max()), made["tokens"].shape[2])
                tokens = np.zeros(shape, np.float32)
            tokens[batch, : ingredients.shape[1]] = made["tokens"]
    assert vectors is not None
    return EncodedItems(
        vectors, None if tokens is None else RaggedEncodings(lengths, {"tokens": tokens})
    )


def raise_level(
    bundle: Bundle, role: Role, encodings: RaggedEncodings, level: Level
) -> RaggedEncodings:
    """The same items at `level` or above, computed from the level they have."""
    arrays: dict[str, Any] = dict(encodings.arrays)
    if level != "tokens" and "tokens" in arrays:
        inputs = {"tokens": arrays["tokens"]}
        if role == "recipe":
            inputs["lengths"] = encodings.lengths
        made = bundle.run(f"project_{role}", inputs)
        arrays = {name: made[name] for name in LEVELS["projections"]}
    if level == "tables" and "table" not in arrays:
        arrays["table"] = bundle.run(f"tabulate_{role}", {"value": arrays["value"]})["table"]
    return RaggedEncodings(encodings.lengths, arrays)


def _sentence_vectors(
    bundle: Bundle, recipes: Iterable[RecipeIds]
) -> tuple[npt.NDArray[np.float32], list[Positions]]:
    """Vectors of the distinct sentences behind a zero row, and each recipe's rows among them."""
    distinct = DistinctSentences()
    rows = [distinct.rows(recipe.sentences) for recipe in recipes]
    texts = distinct.word_ids
    vectors: npt.NDArray[np.float32] | None = None
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for start in range(0, len(order), SENTENCE_BATCH):
        batch = order[start : start + SENTENCE_BATCH]
        word_ids, lengths = pad_ids([texts[i] for i in batch])
        made = bundle.run("sentence", {"word_ids": word_ids, "lengths": lengths})["vectors"]
        if vectors is None:
            vectors = np.zeros((len(texts) + 1, made.shape[1]), np.float32)
        vectors[np.array(batch) + 1] = made
    assert vectors is not None
    return vectors, rows
