"""AdaMine: a joint space of photos and recipes (SIGIR 2018). It has no local score.

    photo ──▶ image encoder, mean over regions (C) ──▶ linear, tanh, unit length ──▶ (D)
    ingredients ──▶ embedding, LSTM both ways, last states ─┐
    sentences ──▶ LSTM, last state ─────────────────────────┴▶ linear, tanh, unit length ──▶ (D)

S is the cosine of the two.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..text.vocabulary import Tokenizer
from .base import Encoders, Model
from .config import ModelConfig
from .encoders.batches import RecipeBatch, Tokens
from .encoders.image.features import ImageFeatures
from .encoders.recurrent import Bidirectional, last_valid, run_steps
from .numerics import at_least_float32, unit_rows


class AdaMine(Model):
    """The network as published, but that sequences are read to their own lengths.

    The released code runs its LSTMs over the padding.

    Args:
        config: sizes and choices.
        tokenizer: reads recipes.
        encoders: what it is built on.
    """

    has_local = False
    float32_layers = ("image_embedding", "recipe_embedding")

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer, encoders: Encoders) -> None:
        super().__init__(config, tokenizer, encoders)
        self.ingredient_lstm = Bidirectional(nn.LSTM, config.word_dim, config.ingredient_width)
        self.sentence_lstm = nn.LSTM(self.sentence_width, config.sentence_dim, batch_first=True)
        self.image_embedding = nn.Linear(encoders.image.pooled_width, config.width)
        self.recipe_embedding = nn.Linear(
            2 * config.ingredient_width + config.sentence_dim, config.width
        )

    @property
    def global_dim(self) -> int:
        """See `Model.global_dim`."""
        return self.config.width

    def image_tokens(self, features: ImageFeatures) -> Tokens:
        """See `Model.image_tokens`."""
        pooled = features.pooled
        lengths = pooled.new_full((pooled.shape[0],), self.region_count).long()
        return Tokens(_embedded(pooled, self.image_embedding), None, lengths)

    def recipe_tokens(self, recipe: RecipeBatch) -> Tokens:
        """See `Model.recipe_tokens`."""
        counts = recipe.ingredient_counts
        # ahead, back (M, T, ingredient_width) and states (M, S, sentence_dim).
        ahead, back = self.ingredient_lstm(self.ingredient_vectors(recipe.ingredients), counts)
        states = run_steps(self.sentence_lstm, recipe.sentences)
        # The forward direction ends at the last ingredient, the backward one at the first.
        parts = [last_valid(ahead, counts), back[:, 0],
                 last_valid(states, recipe.sentence_counts)]  # fmt: skip
        embedding = _embedded(torch.cat(parts, dim=-1), self.recipe_embedding)
        return Tokens(embedding, None, counts)


def _embedded(features: Tensor, layer: nn.Linear) -> Tensor:
    """Bring features (N, ...) to unit vectors (N, D) of the joint space."""
    embedding = layer(features.to(layer.weight.dtype))
    return unit_rows(at_least_float32(embedding.tanh()))
