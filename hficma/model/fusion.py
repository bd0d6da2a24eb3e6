"""The learned layers behind a score: fusion inside a recipe, and between photo and recipe."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .numerics import unit_rows
from .similarity import FoldedItemWeights, FoldedWeights, padding_bias


class RecipeFusion(nn.Module):
    """Ingredients and sentences of one recipe attend to each other, single head, no output layer.

    Args:
        width: d of both.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sentence_key = nn.Linear(width, width, bias=False)
        self.ingredient_key = nn.Linear(width, width, bias=False)
        for layer in (self.sentence_key, self.ingredient_key):
            init_published(layer)

    def forward(
        self,
        ingredients: Tensor,
        ingredient_counts: Tensor,
        sentences: Tensor,
        sentence_counts: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Join each token with what it attends to on the other side.

        Args:
            ingredients: (M, T, d) and how many count, (M,).
            sentences: (M, N, d) and how many count, (M,); at least one each.

        Returns:
            ingredient tokens (M, T, 2 d) and sentence tokens (M, N, 2 d); values at padded
            tokens mean nothing.
        """
        scale = 1 / math.sqrt(ingredients.shape[-1])
        logits = self.ingredient_key(ingredients) @ self.sentence_key(sentences).mT * scale
        no_sentence = padding_bias(sentence_counts, sentences.shape[1], logits.dtype)
        no_ingredient = padding_bias(ingredient_counts, ingredients.shape[1], logits.dtype)
        read = torch.softmax(logits + no_sentence[:, None], dim=-1) @ sentences
        read_back = torch.softmax(logits.mT + no_ingredient[:, None], dim=-1) @ ingredients
        return torch.cat([ingredients, read], -1), torch.cat([sentences, read_back], -1)


class CrossFusion(nn.Module):
    """Weights of the gated fusion between photo and recipe; `fold` makes them fast.

    Args:
        width: d.
        heads: H, divides d.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.image_key = nn.Linear(width, width, bias=False)
        self.recipe_key = nn.Linear(width, width, bias=False)
        self.attention_query = nn.Linear(width, width)
        self.attention_key = nn.Linear(width, width)
        self.attention_value = nn.Linear(width, width)
        self.attention_output = nn.Linear(width, width)
        self.image_fuse = nn.Linear(2 * width, width)
        self.recipe_fuse = nn.Linear(2 * width, width)
        self.match_hidden = nn.Linear(2 * width, width)
        self.match_output = nn.Linear(width, 1)
        for layer in (self.image_key, self.recipe_key, self.image_fuse, self.recipe_fuse,
                      self.match_hidden, self.match_output):  # fmt: skip
            init_published(layer)

    def fold(self) -> FoldedWeights:
        """Multiply out what depends on weights alone (steps 1 to 3 of `similarity`)."""
        return FoldedWeights(
            image=self._fold_side(self.image_key, self.image_fuse, self.recipe_fuse),
            recipe=self._fold_side(self.recipe_key, self.recipe_fuse, self.image_fuse),
            match_hidden=self.match_hidden.weight,
            match_hidden_bias=self.match_hidden.bias,
            match_output=self.match_output.weight,
            match_output_bias=self.match_output.bias,
        )

    def _fold_side(
        self, key: nn.Linear, fuse: nn.Linear, other_fuse: nn.Linear
    ) -> FoldedItemWeights:
        own, gathered = fuse.weight.chunk(2, dim=1)
        other_gathered = other_fuse.weight.chunk(2, dim=1)[1]
        output = self.attention_output
        width = own.shape[0]
        no_bias = torch.zeros_like(fuse.bias)
        return FoldedItemWeights(
            projection=torch.cat(
                [
                    self.attention_query.weight @ key.weight,
                    self.attention_key.weight @ key.weight,
                    self.attention_value.weight,
                    output.weight.T,
                    own,
                ]
            ),
            projection_bias=torch.cat(
                [
                    self.attention_query.bias,
                    self.attention_key.bias,
                    self.attention_value.bias,
                    no_bias,
                    gathered @ output.bias,
                ]
            ),
            gate_bias=output.bias,
            table=(other_gathered @ output.weight).T.reshape(
                self.heads, width // self.heads, width
            ),
            fuse_bias=fuse.bias,
        )


class JointEmbedding(nn.Module):
    """The published `visual_embedding`: one layer shared by regions and ingredient tokens.

    Args:
        width: d; inputs are 2 d wide.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., 2 d) -> unit rows (..., d)."""
        return unit_rows(self.linear(tokens).relu())


def init_published(layer: nn.Linear) -> None:
    """U(-r, r) with r = √6 / √(in + out), biases 0, as the released code initialises."""
    radius = math.sqrt(6) / math.sqrt(layer.in_features + layer.out_features)
    nn.init.uniform_(layer.weight, -radius, radius)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
