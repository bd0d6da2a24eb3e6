"""Photos and recipes that a bundle is calibrated on and held to.

Calibration (int8, and rounding to fp16) needs photos as the model will see them, for ranges of
activations: training pairs of the dataset. Parity needs what is likely to go wrong, so the edges of
what there can be stand beside real pairs, of the test partition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hficma.data.dataset import Dataset, positions
from hficma.data.photos import readable_photos
from hficma.images import ImageInput, preprocess
from hficma.text.batching import DistinctSentences, pad_ids
from hficma.text.vocabulary import (
    FIRST_WORD_ID,
    INGREDIENTS,
    INSTRUCTIONS,
    TITLE,
    RecipeIds,
    Tokenizer,
)
from hficma.types import Array, Mask, Pixels

_FIELDS = (TITLE, INSTRUCTIONS, INGREDIENTS)


class ItemReader(Protocol):
    """What items are made for: a model, or the bundle that it was compiled to."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Return what reads recipes."""

    @property
    def image_input(self) -> ImageInput:
        """Return the pixels that are read of a photo."""


@dataclass(frozen=True)
class CalibrationItems:
    """Photos and recipes; pairs where they come from a dataset."""

    photos: Pixels
    """(B, s, s, 3)."""
    recipes: list[RecipeIds]
    """M recipes as the tokenizer reads them."""
    test: Mask | None = None
    """(M,): which are test pairs of their dataset; None where they are of none."""


def adversarial_items(reader: ItemReader, seed: int = 0) -> CalibrationItems:
    """Return the edges: black, white, noise; one ingredient, the most there can be, odd lengths."""
    generator = np.random.default_rng(seed)
    tokenizer, size = reader.tokenizer, reader.image_input.size
    # Without words of its own a model reads none of these ids.
    rows = max(tokenizer.vocabulary.table_rows, FIRST_WORD_ID + 1)
    config = tokenizer.config

    def recipe(ingredients: int, sentences: int, words: int) -> RecipeIds:
        ids = generator.integers(FIRST_WORD_ID, rows, ingredients)
        texts = (generator.integers(FIRST_WORD_ID, rows, words) for _ in range(sentences))
        return RecipeIds(
            ids, tuple(texts), titles=min(1, sentences - 1), **_texts(generator, tokenizer, words)
        )

    black = np.zeros((size, size, 3), dtype=np.uint8)
    noise = generator.integers(0, 256, black.shape, dtype=np.uint8)
    # A recipe of one of everything, one at every limit, and two of odd lengths between.
    most = (config.max_ingredients, config.max_sentences, config.max_words)
    recipes = [recipe(1, 1, 1), recipe(*most), recipe(2, 5, 3), recipe(9, 8, 12)]
    return CalibrationItems(np.stack([black, 255 - black, noise]), recipes)


def smooth_items(reader: ItemReader, count: int, seed: int = 1) -> CalibrationItems:
    """Return random smooth photos and recipes, where no dataset has real ones."""
    generator = np.random.default_rng(seed)
    tokenizer, size = reader.tokenizer, reader.image_input.size
    # Blocks of one colour under a little noise: pure noise would drive activations where no photo
    # does, and ranges calibrated on it would be those of nothing.
    coarse = generator.integers(0, 256, (count, 8, 8, 3)).astype(np.float32)
    block = -(-size // 8)
    fine = coarse.repeat(block, axis=1).repeat(block, axis=2)[:, :size, :size]
    fine += generator.normal(scale=12, size=fine.shape)
    # Without words of its own a model reads none of these ids.
    rows = max(tokenizer.vocabulary.table_rows, FIRST_WORD_ID + 1)
    recipes = [
        RecipeIds(
            generator.integers(FIRST_WORD_ID, rows, int(generator.integers(3, 12))),
            tuple(
                generator.integers(FIRST_WORD_ID, rows, int(generator.integers(3, 15)))
                for _ in range(int(generator.integers(2, 8)))
            ),
            **_texts(generator, tokenizer, int(generator.integers(3, 15))),
        )
        for _ in range(count)
    ]
    return CalibrationItems(fine.clip(0, 255).astype(np.uint8), recipes)


def _texts(generator: np.random.Generator, tokenizer: Tokenizer, tokens: int) -> dict[str, Any]:
    """Return random texts for a text encoder, one of each field, as fields of `RecipeIds`."""
    if tokenizer.text_tokenizer is None:
        return {}
    architecture = tokenizer.text_tokenizer.architecture
    fields = (TITLE,) if tokenizer.config.encoder_reads == "line" else _FIELDS
    # Texts that are padded have one length.
    length = architecture.longest if architecture.pad is not None else tokens
    length = min(length, architecture.longest)
    texts = generator.integers(0, architecture.config["vocab_size"], (len(fields), length))
    return {"texts": tuple(texts), "text_fields": fields}


def real_items(
    dataset: Dataset, reader: ItemReader, partitions: Sequence[str], limit: int
) -> CalibrationItems:
    """Return up to `limit` pairs of a dataset, spread evenly over some of its partitions.

    Args:
        dataset: read from.
        reader: of the model.
        partitions: of `train`, `val`, `test`; where they hold no pairs, all are taken.
        limit: the most pairs.
    """
    pairs = positions(dataset, partitions, with_photo=True)
    if not len(pairs):
        pairs = positions(dataset, None, with_photo=True)
    pairs = pairs[np.linspace(0, len(pairs) - 1, min(limit, len(pairs))).astype(int)]
    recipes, photos = [], []
    for position, photo in readable_photos(dataset, pairs, side=reader.image_input.least_side):
        recipes.append(dataset.recipe(position))
        photos.append(preprocess(photo, reader.image_input))
    test = np.array([recipe.partition == "test" for recipe in recipes], dtype=np.bool_)
    return CalibrationItems(
        np.stack(photos), [reader.tokenizer(recipe) for recipe in recipes], test
    )


def concatenate(*parts: CalibrationItems) -> CalibrationItems:
    """Return all photos and all recipes of several."""
    return CalibrationItems(
        np.concatenate([part.photos for part in parts]),
        [recipe for part in parts for recipe in part.recipes],
    )


def item_arrays(items: CalibrationItems) -> dict[str, Array]:
    """Return items as the graphs `image`, `sentence` and `recipe` read them.

    Returns:
        the arrays of `bundle_run.ITEM_ARRAYS`, by name.
    """
    arrays: dict[str, Array] = {}
    if items.recipes[0].texts:
        distinct = DistinctSentences()
        text_rows, _ = pad_ids([distinct.rows(recipe.texts) for recipe in items.recipes])
        arrays["text_word_ids"], arrays["text_lengths"] = pad_ids(distinct.word_ids)
        arrays["text_rows"] = text_rows - 1
        arrays["text_fields"], _ = pad_ids(
            [np.array(recipe.text_fields) for recipe in items.recipes]
        )
    distinct = DistinctSentences()
    rows, counts = pad_ids([distinct.rows(recipe.sentences) for recipe in items.recipes])
    word_ids, sentence_lengths = pad_ids(distinct.word_ids)
    ingredients, ingredient_counts = pad_ids([recipe.ingredients for recipe in items.recipes])
    return arrays | {
        "photos": items.photos,
        "word_ids": word_ids,
        "sentence_lengths": sentence_lengths,
        # From 0, padding -1: so the file of references has it.
        "sentence_rows": rows - 1,
        "ingredients": ingredients,
        "ingredient_counts": ingredient_counts,
        "recipe_lengths": ingredient_counts,
        "sentence_counts": counts,
        "title_counts": np.array([recipe.titles for recipe in items.recipes], dtype=np.int64),
    }
