"""Recipes of a dataset as ids, and batches of them with parts left out at random."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hficma.model import Model, RecipeBatch
from hficma.model.encoders.batches import texts_as_sentences
from hficma.recipe import Recipe
from hficma.text.batching import batches_by_length, pad_ids
from hficma.text.vocabulary import END_ID, INGREDIENTS, INSTRUCTIONS, TITLE, Tokenizer
from hficma.types import Ids, Positions

from ..config.options import TextOptions
from .ragged import DistinctSequences, Ragged, RaggedBuilder, scratch_array

ENCODE_ROWS = 512
"""Sentences that a frozen encoder reads at once."""
ENCODE_TEXTS = 64
"""Texts that a frozen text encoder reads at once."""
_FIELDS = (TITLE, INGREDIENTS, INSTRUCTIONS)
Encode: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Ids (S, W) and lengths (S,) to vectors (S, D_s)."""
_NO_WORDS = np.array([END_ID], dtype=np.int64)
"""What is read of a recipe without ingredients."""
_PADDING = np.array([0], dtype=np.int64)
"""Row of a table that stands for no sentence."""


class RecipeTexts:
    """Recipes as ids of ingredients, and rows into tables of the distinct sentences.

    Recipes are read once, one after the other, and only ids are kept (see `ragged`). One table
    holds the sentences that our own words are read of, another the texts for a pretrained text
    encoder. They are those of `hficma.text.batching`: rows count from 1, row 0 is the padding.

    Attributes:
        texts_cut: texts that were longer than the text encoder reads.

    Args:
        recipes: read once, in the order of the positions that `batch` takes.
        tokenizer: the model's.
    """

    def __init__(self, recipes: Iterable[Recipe], tokenizer: Tokenizer) -> None:
        self._reads_lines = tokenizer.reads_fields
        self._titles = array("H")
        self.texts_cut = 0
        ingredients, sentences, texts, text_fields = (RaggedBuilder() for _ in range(4))
        distinct, distinct_texts = DistinctSequences(), DistinctSequences()
        for recipe in recipes:
            ids = tokenizer(recipe)
            ingredients.append(ids.ingredients)
            sentences.append(distinct.rows(ids.sentences))
            self._titles.append(ids.titles)
            texts.append(distinct_texts.rows(ids.texts))
            text_fields.append(np.array(ids.text_fields, dtype=np.int64))
            self.texts_cut += ids.texts_cut
        self._ingredients, self._sentences = ingredients.build(), sentences.build()
        self._texts, self._text_fields = texts.build(), text_fields.build()
        if not len(distinct.builder):
            distinct.rows([_NO_WORDS])
        self._sentence_table = _Table(distinct.builder.build(), ENCODE_ROWS)
        table = distinct_texts.builder.build()
        self._text_table = _Table(table, ENCODE_TEXTS) if len(table) else None

    def __len__(self) -> int:
        """Return the number of recipes."""
        return len(self._ingredients)

    def encode_sentences(self, model: Model, *, most_bytes: int | None = None) -> None:
        """Run a frozen sentence encoder over every distinct sentence, once for all batches.

        Args:
            model: whose sentence encoder runs.
            most_bytes: where the vectors would take more, each batch encodes its own; None: any.
        """
        if model.sentence_encoder is not None:
            self._sentence_table.fill(
                model.sentence_vectors, model.sentence_encoder, model, lambda _: None, most_bytes
            )

    def encode_texts(
        self, model: Model, *, advance: Callable[[int], None], most_bytes: int | None = None
    ) -> None:
        """Run a frozen text encoder over every distinct text, once for all batches.

        Args:
            model: whose text encoder runs, without dropout.
            advance: hears how many texts were encoded.
            most_bytes: as for `encode_sentences`.
        """
        if model.text_encoder is not None and self._text_table is not None:
            self._text_table.fill(
                model.text_vectors, model.text_encoder, model, advance, most_bytes
            )

    @property
    def most_ingredients(self) -> int:
        """Return the ingredients of the recipe that has most of them."""
        return int(self._ingredients.lengths.max(initial=0))

    @property
    def distinct_sentences(self) -> int:
        """Return the number of different sentences."""
        return len(self._sentence_table)

    @property
    def distinct_texts(self) -> int:
        """Return the number of different texts."""
        return 0 if self._text_table is None else len(self._text_table)

    def batch(
        self,
        model: Model,
        positions: Sequence[int] | Positions,
        *,
        options: TextOptions | None = None,
        generator: np.random.Generator | Sequence[np.random.Generator] | None = None,
    ) -> RecipeBatch:
        """Return M recipes as the model reads them.

        A recipe without any sentence reads one zero vector.

        Args:
            model: whose sentence encoder is used.
            positions: which recipes (M,).
            options: with a generator, what is left out at random; None shows all.
            generator: draws what is left out, one after the other; or one for each recipe.
        """
        recipes = [
            _Rows(
                self._ingredients[position],
                self._sentences[position],
                self._titles[position],
                self._texts[position],
                self._text_fields[position],
                self._reads_lines,
            )
            for position in positions
        ]
        if options is not None and generator is not None:
            if isinstance(generator, np.random.Generator):
                generator = [generator] * len(recipes)
            recipes = [
                recipe.thinned(options, one) for recipe, one in zip(recipes, generator, strict=True)
            ]
        ids, counts = (one.to(model.device) for one in _padded([one.names for one in recipes]))
        texts, text_fields = ids.new_zeros(len(recipes), 0, 0), ids.new_zeros(len(recipes), 0)
        if self._text_table is not None:
            rows, _ = _padded([one.texts for one in recipes], least=1)
            texts = self._text_table.vectors(rows, model.text_vectors, model.device)
            fields, _ = _padded([one.text_fields for one in recipes], least=1)
            text_fields = fields.to(model.device)
        if model.sentence_encoder is None:
            return texts_as_sentences(ids, counts, texts, text_fields)
        rows, sentence_counts = _padded([one.sentences for one in recipes], least=1)
        return RecipeBatch(
            ids,
            counts,
            self._sentence_table.vectors(rows, model.sentence_vectors, model.device),
            sentence_counts.clamp_min(1).to(model.device),
            torch.tensor([one.titles for one in recipes]).to(model.device),
            texts,
            text_fields,
        )


class _Table:
    """Distinct sentences, and their vectors where the encoder is frozen and they fit.

    Args:
        sentences: ids (W,) of each.
        most: sentences that are encoded at once.
    """

    def __init__(self, sentences: Ragged, most: int) -> None:
        self._sentences, self._most = sentences, most
        self._vectors: Tensor | None = None
        self._frozen: nn.Module | None = None

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self._sentences)

    @torch.no_grad()
    def fill(
        self,
        encode: Encode,
        encoder: nn.Module,
        model: Model,
        advance: Callable[[int], None],
        most_bytes: int | None,
    ) -> None:
        """Encode all sentences, those of like lengths together.

        Args:
            encode: ids (S, W) and lengths (S,) to vectors (S, D_s).
            encoder: that runs in it, from now on without dropout and gradients.
            model: whose encoder it is.
            advance: hears how many were encoded.
            most_bytes: where the vectors would take more, batches encode theirs; None: any.
        """
        self._frozen = encoder.eval()
        vectors: Tensor | None = None
        for rows, batch in self._encoded(self._sentences, encode, model.device):
            encoded = batch.cpu()
            if vectors is None:
                shape = (len(self), encoded.shape[1])
                if most_bytes is not None and 4 * shape[0] * shape[1] > most_bytes:
                    return
                vectors = torch.from_numpy(scratch_array(shape))
            vectors[rows] = encoded
            advance(len(rows))
        self._vectors = vectors

    def vectors(self, rows: Tensor, encode: Encode, device: torch.device) -> Tensor:
        """Return the vectors (M, S, D_s) of padded rows (M, S) of the table; zeros for row 0.

        Each distinct sentence of the batch is encoded once, and its vector looked up at every
        place where it stands; the sum of their gradients then flows through one encoding.
        """
        distinct, places = rows.unique(return_inverse=True)  # ascending: the padding comes first
        present = distinct[distinct > 0] - 1
        if self._vectors is not None:
            vectors = self._vectors[present].to(device)
        else:
            # Of a batch that shows no sentence at all the first gives the width.
            shown = [self._sentences[row] for row in present.tolist()] or self._sentences[:1]
            if self._frozen is not None:
                self._frozen.eval()  # an epoch puts the whole model into training mode
            with torch.set_grad_enabled(torch.is_grad_enabled() and self._frozen is None):
                batches = list(self._encoded(shown, encode, device))
                order = torch.tensor([row for rows, _ in batches for row in rows], device=device)
                vectors = torch.cat([batch for _, batch in batches])[order.argsort()]
            vectors = vectors[: len(present)]
        if len(present) < len(distinct):
            vectors = torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors])
        return vectors[places.to(device)]

    def _encoded(
        self, sentences: Sequence[Ids], encode: Encode, device: torch.device
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Yield places (B,) of sentences of like lengths, and their vectors (B, D_s).

        Padded to the longest of all, a recipe's short lines would cost as much as its whole text.
        """
        for rows in batches_by_length(sentences, self._most):
            ids, lengths = _padded([sentences[row] for row in rows])
            yield rows, encode(ids.to(device), lengths.to(device))


def _padded(sequences: Sequence[Ids], *, least: int = 0) -> tuple[Tensor, Tensor]:
    """Return `pad_ids` of sequences as tensors, padded to `least` entries where all are shorter."""
    ids, lengths = (torch.from_numpy(array) for array in pad_ids(sequences))
    return F.pad(ids, (0, max(0, least - ids.shape[1]))), lengths


class _Rows(NamedTuple):
    """What is shown of one recipe."""

    names: Ids
    """Ids of the ingredients (T,)."""
    sentences: Ids
    """Rows of the table of sentences (S,), those of the title first."""
    titles: int
    """How many of them are the title's."""
    texts: Ids
    """Rows of the table of texts (P,)."""
    text_fields: Ids
    """Field of each text (P,)."""
    reads_lines: bool
    """Whether the last of the sentences is all words of the ingredient lines."""

    def thinned(self, options: TextOptions, generator: np.random.Generator) -> _Rows:
        """Return the recipe with parts left out at random, never all of them.

        Args:
            options: chances.
            generator: draws what is left out.
        """
        # Where ingredient lines are read as words, the last sentence is theirs.
        end = len(self.sentences) - self.reads_lines
        title, steps = self.sentences[: self.titles], self.sentences[self.titles : end]
        ingredients = self.sentences[end:] if self.reads_lines else self.names
        texts, fields = self.texts, self.text_fields
        chances = (options.drop_title, options.drop_ingredients, options.drop_instructions)
        dropped = generator.random(3) < chances
        keep = 1 - options.drop_items
        if options.drop_items:
            ingredients = ingredients[generator.random(len(ingredients)) < keep]
            steps = steps[generator.random(len(steps)) < keep]
            if len(texts):
                shown = (fields != INSTRUCTIONS) | (generator.random(len(texts)) < keep)
                texts, fields = texts[shown], fields[shown]
        parts = [
            part[:0] if gone else part
            for part, gone in zip((title, ingredients, steps), dropped, strict=True)
        ]
        hidden = [field for field, gone in zip(_FIELDS, dropped, strict=True) if gone]
        shown = ~np.isin(fields, hidden)
        # Without any of them nothing could be learnt: then none is left out.
        if any(len(part) for part in parts) and (shown.any() or not len(self.texts)):
            texts, fields = texts[shown], fields[shown]
        else:
            parts, texts, fields = [title, ingredients, steps], self.texts, self.text_fields
        title, ingredients, steps = parts
        if self.reads_lines:
            # Left out, the last sentence keeps its place: the padding's row of zeros.
            last = ingredients if len(ingredients) else _PADDING
            rows = np.concatenate([title, steps, last])
            return self._replace(sentences=rows, titles=len(title), texts=texts, text_fields=fields)
        names = ingredients if len(ingredients) else _NO_WORDS
        rows = np.concatenate([title, steps])
        return _Rows(names, rows, len(title), texts, fields, False)
