"""Dual encoders: a photo's vector and a recipe's, and their cosine; no local score.

    photo ──▶ image encoder ──▶ pooled features ──▶ head ──────────────────────────▶ (D_g)
    recipe ─▶ vectors of title, ingredients, instructions ──▶ means ──▶ head ──▶ (D_g)

The plain form of the field (CLIP, ICML 2021, with other encoders), strongest where there are few
pairs to learn from. `RecipeFields` is what HF-ICMA shares with it by `global_text: fields`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..text.vocabulary import INGREDIENTS, INSTRUCTIONS, TITLE, Tokenizer
from .base import Encoders, Model
from .config import ModelConfig
from .encoders.batches import RecipeBatch, Tokens
from .encoders.heads import field_mean, make_head
from .encoders.image.features import ImageFeatures


class RecipeFields(nn.Module):
    """A recipe's global vector from the means of its fields.

    Args:
        config: of the model.
        encoders: of the model.

    Attributes:
        part_fields: the field (TITLE, ...) of each of the means that the head reads.
    """

    def __init__(self, config: ModelConfig, encoders: Encoders) -> None:
        super().__init__()
        self.reads_words = encoders.sentence is not None
        self.reads_lines = config.text.unit == "field"
        self.text_fields: tuple[int, ...] = ()
        self.part_fields: tuple[int, ...] = ()
        widths = []
        if encoders.sentence is not None:
            sentence = encoders.sentence.width
            widths += [sentence, sentence if self.reads_lines else config.word_dim, sentence]
            self.part_fields += (TITLE, INGREDIENTS, INSTRUCTIONS)
        if encoders.text is not None:
            line = config.text.encoder_reads == "line"
            self.text_fields = (TITLE,) if line else (TITLE, INGREDIENTS, INSTRUCTIONS)
            widths += [encoders.text.width] * len(self.text_fields)
            self.part_fields += self.text_fields
        cosine = config.global_similarity == "cosine"
        self.head = make_head(
            config.recipe_head, widths, config.global_dim, cosine=cosine, members=config.members
        )

    def forward(self, ingredients: Tensor | None, recipe: RecipeBatch) -> Tensor:
        """Compute the global vectors of M recipes.

        Args:
            ingredients: (M, T, D_w) word vectors of the ingredients; read where words are.
            recipe: M recipes.

        Returns:
            (M, D_g).
        """
        means, present = zip(*self.field_means(ingredients, recipe), strict=True)
        vectors: Tensor = self.head(means, present)
        return vectors

    def field_means(
        self, ingredients: Tensor | None, recipe: RecipeBatch
    ) -> list[tuple[Tensor, Tensor]]:
        """Return what the head reads: the mean of each field, and who has it; see `field_mean`."""
        fields = []
        if self.reads_words:
            fields += self._word_means(ingredients, recipe)
        for field in self.text_fields:
            members = (recipe.text_fields == field).to(recipe.texts.dtype)
            fields.append(field_mean(recipe.texts, members))
        return fields

    def _word_means(
        self, ingredients: Tensor | None, recipe: RecipeBatch
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the means over word vectors of title, ingredients and instructions."""
        sentences = recipe.sentences
        # A recipe's sentences are its title, once or more, then its instructions, and then, where
        # ingredient lines are read, all words of them as one.
        titles = _first(recipe.title_counts, sentences)
        if self.reads_lines:
            steps_end = _first(recipe.sentence_counts - 1, sentences)
            lines = _first(recipe.sentence_counts, sentences) - steps_end
            words, _ = field_mean(sentences, lines)
            # Lines of which no word is known, or which are left out, are a sentence of zeros.
            known = ((words * words).sum(dim=1) > 0).to(words.dtype)
            return [
                field_mean(sentences, titles),
                (words, known),
                field_mean(sentences, steps_end - titles),
            ]
        assert ingredients is not None
        steps = _first(recipe.sentence_counts, sentences) - titles
        return [
            field_mean(sentences, titles),
            field_mean(ingredients, _first(recipe.ingredient_counts, ingredients)),
            field_mean(sentences, steps),
        ]


def _first(counts: Tensor, vectors: Tensor) -> Tensor:
    """Return (M, N): 1 for the first vectors of each recipe, by counts (M,), 0 for the others."""
    places = torch.arange(vectors.shape[1], device=vectors.device)
    return (places < counts[:, None]).to(vectors.dtype)


class DualEncoder(Model):
    """S is the product of two global vectors, one of a photo and one of a recipe.

    Args:
        config: sizes and choices.
        tokenizer: reads recipes.
        encoders: what it is built on.
    """

    has_local = False
    # What tells items apart is small beside what they share, until the heads have centred it.
    float32_layers = ("image_global", "recipe_global")

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer, encoders: Encoders) -> None:
        super().__init__(config, tokenizer, encoders)
        cosine = config.global_similarity == "cosine"
        self.pooled_parts = encoders.image.pooled_parts
        self.image_global = make_head(
            config.image_head,
            self.pooled_parts,
            config.global_dim,
            cosine=cosine,
            members=config.members,
        )
        self.recipe_global = RecipeFields(config, encoders)

    @property
    def global_dim(self) -> int:
        """See `Model.global_dim`."""
        return self.image_global.width

    def image_tokens(self, features: ImageFeatures) -> Tokens:
        """See `Model.image_tokens`."""
        pooled = features.pooled
        lengths = pooled.new_full((pooled.shape[0],), self.region_count).long()
        parts = pooled.split(self.pooled_parts, dim=1)
        return Tokens(self.image_global(parts, [None] * len(parts)), None, lengths)

    def recipe_tokens(self, recipe: RecipeBatch) -> Tokens:
        """See `Model.recipe_tokens`."""
        has_words = self.ingredient_words is not None
        words = self.ingredient_vectors(recipe.ingredients) if has_words else None
        vectors = self.recipe_global(words, recipe)
        return Tokens(vectors, None, recipe.ingredient_counts)
