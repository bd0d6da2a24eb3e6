"""Recipes of a dataset as ids in memory, and batches of them with parts left out at random."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from hficma.model import Model, RecipeBatch
from hficma.recipe import Recipe
from hficma.text.batching import DistinctSentences, pad_ids
from hficma.text.vocabulary import END_ID, Tokenizer
from hficma.types import Ids, Positions

from ..config.options import TextOptions

ENCODE_ROWS = 512
"""Sentences that a frozen encoder reads at once."""
_NO_WORDS = np.array([END_ID], dtype=np.int64)
"""What is read of a recipe without ingredients."""


class RecipeTexts:
    """Recipes in memory: ids of ingredients, and rows into a table of the distinct sentences.

    The table is that of `hficma.text.batching`: rows count from 1, row 0 is the padding.

    Args:
        recipes: in the order of the positions that `batch` takes.
        tokenizer: the model's.
    """

    def __init__(self, recipes: Iterable[Recipe], tokenizer: Tokenizer) -> None:
        self._ingredients: list[Ids] = []
        self._sentences: list[Ids] = []
        self._titles: list[int] = []
        distinct = DistinctSentences()
        for recipe in recipes:
            ids = tokenizer(recipe)
            self._ingredients.append(ids.ingredients)
            self._sentences.append(distinct.rows(ids.sentences))
            self._titles.append(ids.titles)
        self._word_ids, self._word_counts = _padded(distinct.word_ids or [_NO_WORDS])
        self._vectors: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of recipes."""
        return len(self._ingredients)

    @torch.no_grad()
    def encode_sentences(self, model: Model) -> None:
        """Run a frozen sentence encoder over every distinct sentence, once for all batches."""
        parts = [
            model.sentence_vectors(ids.to(model.device), counts.to(model.device)).cpu()
            for ids, counts in zip(
                self._word_ids.split(ENCODE_ROWS), self._word_counts.split(ENCODE_ROWS), strict=True
            )
        ]
        self._vectors = torch.cat(parts)

    def batch(
        self,
        model: Model,
        positions: Sequence[int] | Positions,
        *,
        options: TextOptions | None = None,
        generator: np.random.Generator | None = None,
    ) -> RecipeBatch:
        """Return M recipes as the model reads them.

        A recipe without any sentence reads one zero vector.

        Args:
            model: whose sentence encoder is used.
            positions: which recipes (M,).
            options: with a generator, what is left out at random; None shows all.
            generator: draws what is left out.
        """
        ingredients, sentences, titles = [], [], []
        for position in positions:
            names, rows = self._ingredients[position], self._sentences[position]
            title = self._titles[position]
            if options is not None and generator is not None:
                names, rows, title = _thinned(names, rows, title, options, generator)
            ingredients.append(names)
            sentences.append(rows)
            titles.append(title)
        ids, counts = _padded(ingredients)
        padded, sentence_counts = _padded(sentences)
        if padded.shape[1] == 0:
            padded = padded.new_zeros(len(padded), 1)
        return RecipeBatch(
            ids.to(model.device),
            counts.to(model.device),
            self._sentence_vectors(model, padded),
            sentence_counts.clamp_min(1).to(model.device),
            torch.tensor(titles).to(model.device),
        )

    def _sentence_vectors(self, model: Model, rows: Tensor) -> Tensor:
        """Return the vectors (M, S, D_s) of padded rows (M, S) of the table; zeros for row 0.

        Each distinct sentence of the batch is encoded once, and its vector looked up at every
        place where it stands; the sum of their gradients then flows through one encoding.
        """
        distinct, places = rows.unique(return_inverse=True)  # ascending: the padding comes first
        present = distinct[distinct > 0] - 1
        device = model.device
        if self._vectors is not None:
            vectors = self._vectors[present].to(device)
        elif len(present):
            longest = int(self._word_counts[present].max())
            vectors = model.sentence_vectors(
                self._word_ids[present, :longest].to(device),
                self._word_counts[present].to(device),
            )
        else:
            vectors = torch.zeros(0, model.sentence_encoder.width, device=device)
        if len(present) < len(distinct):
            vectors = torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors])
        return vectors[places.to(device)]


def _padded(sequences: Sequence[Ids]) -> tuple[Tensor, Tensor]:
    """Return `pad_ids` of sequences as tensors."""
    ids, lengths = pad_ids(sequences)
    return torch.from_numpy(ids), torch.from_numpy(lengths)


def _thinned(
    ingredients: Ids,
    sentences: Ids,
    titles: int,
    options: TextOptions,
    generator: np.random.Generator,
) -> tuple[Ids, Ids, int]:
    """Return a recipe's ingredients and sentences with parts left out, never all of them.

    Of the sentences that are left, the number that is returned, the first ones, are the title.

    Args:
        ingredients: ids (T,).
        sentences: rows of the table (S,), those of the title first.
        titles: how many of them are the title's.
        options: chances.
        generator: draws what is left out.
    """
    title, steps = sentences[:titles], sentences[titles:]
    chances = (options.drop_title, options.drop_ingredients, options.drop_instructions)
    dropped = generator.random(3) < chances
    keep = 1 - options.drop_items
    if options.drop_items:
        ingredients = ingredients[generator.random(len(ingredients)) < keep]
        steps = steps[generator.random(len(steps)) < keep]
    parts = [
        part[:0] if gone else part
        for part, gone in zip((title, ingredients, steps), dropped, strict=True)
    ]
    # Without any of the three nothing could be learnt: then none of them is left out.
    if not any(len(part) for part in parts):
        parts = [title, ingredients, steps]
    title, ingredients, steps = parts
    names = ingredients if len(ingredients) else _NO_WORDS
    return names, np.concatenate([title, steps]), len(title)
