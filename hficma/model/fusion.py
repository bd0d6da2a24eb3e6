"""The learned layers of HF-ICMA behind a score: fusion inside a recipe, and with a photo."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .numerics import padding_bias, unit_rows
from .similarity import FoldedItemWeights, FoldedWeights


class RecipeFusion(nn.Module):
    """Cross-attention between a recipe's ingredients and its sentences, both ways.

    A single head, without value or output layers: what is read are the features themselves, as in
    the released code's `CrossAttention`. Ingredients and sentences are

        Ẽ^g = [R^g ; softmax(R^g W_g (R^s W_s)ᵀ / √D) R^s]      (T, 2 D)
        E^s = [R^s ; softmax(R^s W_s (R^g W_g)ᵀ / √D) R^g]      (S, 2 D)

    with R^g (T, D) and R^s (S, D) as they come in. The symbols are those of the paper's figure.

    Args:
        width: D of both.
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
        """Join each token with what it reads on the other side of the recipe.

        Args:
            ingredients: R^g (M, T, D).
            ingredient_counts: (M,) int64, ingredients that are no padding, at least 1.
            sentences: R^s (M, S, D).
            sentence_counts: (M,) int64, sentences that are no padding, at least 1.

        Returns:
            ingredients Ẽ^g (M, T, 2 D) and sentences E^s (M, S, 2 D); what stands at padding means
            nothing.
        """
        # Both directions share one product (M, T, S): the second reads it transposed.
        scale = 1 / math.sqrt(ingredients.shape[-1])
        logits = self.ingredient_key(ingredients) @ self.sentence_key(sentences).mT * scale
        no_sentence = padding_bias(sentence_counts, sentences.shape[1], logits.dtype)
        no_ingredient = padding_bias(ingredient_counts, ingredients.shape[1], logits.dtype)
        read_sentences = torch.softmax(logits + no_sentence[:, None], dim=-1) @ sentences
        read_ingredients = torch.softmax(logits.mT + no_ingredient[:, None], dim=-1) @ ingredients
        return (
            torch.cat([ingredients, read_sentences], dim=-1),
            torch.cat([sentences, read_ingredients], dim=-1),
        )


class CrossFusion(nn.Module):
    """The layers of the local score: cross-attention and gated fusion of a photo and a recipe.

    Nothing runs them as they stand, except the reference (`published_attention.py`): `fold`
    multiplies them out into what the fast form reads. Names and equations are those of
    `similarity.py`.

    Args:
        width: D.
        heads: H, divides D.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.image_key = nn.Linear(width, width, bias=False)  # K_1
        self.recipe_key = nn.Linear(width, width, bias=False)  # K_2
        self.attention_query = nn.Linear(width, width)  # L1
        self.attention_key = nn.Linear(width, width)  # L2
        self.attention_value = nn.Linear(width, width)  # L3
        self.attention_output = nn.Linear(width, width)  # L4
        self.image_fuse = nn.Linear(2 * width, width)  # F_1
        self.recipe_fuse = nn.Linear(2 * width, width)  # F_2
        self.match_hidden = nn.Linear(2 * width, width)
        self.match_output = nn.Linear(width, 1)
        for layer in (self.image_key, self.recipe_key, self.image_fuse, self.recipe_fuse,
                      self.match_hidden, self.match_output):  # fmt: skip
            init_published(layer)

    def fold(self) -> FoldedWeights:
        """Multiply out what depends on weights alone: steps (a) to (c) of `similarity.py`.

        Differentiable: training folds once a step, and gradients reach every layer.
        """
        return FoldedWeights(
            image=self._fold_item(self.image_key, self.image_fuse, self.recipe_fuse),
            recipe=self._fold_item(self.recipe_key, self.recipe_fuse, self.image_fuse),
            match_hidden=self.match_hidden.weight,
            match_hidden_bias=self.match_hidden.bias,
            match_output=self.match_output.weight,
            match_output_bias=self.match_output.bias,
        )

    def _fold_item(
        self, key: nn.Linear, fuse: nn.Linear, reader_fuse: nn.Linear
    ) -> FoldedItemWeights:
        """Fold the weights that one kind of item meets.

        Args:
            key: K of this kind.
            fuse: F of this kind, which fuses its tokens with what they read.
            reader_fuse: F of the other kind, whose tokens read this kind's table.
        """
        output = self.attention_output
        token_half, read_half = fuse.weight.chunk(2, dim=1)  # Wa, Wb of F, (D, D) each
        reader_half = reader_fuse.weight.chunk(2, dim=1)[1]  # Wb of the other F
        width = fuse.bias.shape[0]
        return FoldedItemWeights(
            projection=torch.cat(
                [
                    self.attention_query.weight @ key.weight,  # (1): L1 K
                    self.attention_key.weight @ key.weight,  # (1): L2 K
                    self.attention_value.weight,  # (1): L3
                    output.weight.T,  # (a): V W4 is F.linear(V, W4ᵀ)
                    token_half,  # (b): Wa
                ]
            ),
            projection_bias=torch.cat(
                [
                    self.attention_query.bias,
                    self.attention_key.bias,
                    self.attention_value.bias,
                    torch.zeros_like(fuse.bias),
                    read_half @ output.bias,  # (b): b4 Wbᵀ
                ]
            ),
            gate_bias=output.bias,  # (a): b4
            # (c): (Wb W4)ᵀ is (D, D), its rows a head's features after the other's.
            table=(reader_half @ output.weight).T.reshape(self.heads, width // self.heads, width),
            fuse_bias=fuse.bias,
        )


class JointEmbedding(nn.Module):
    """One layer shared by regions and ingredients, which puts both into one space.

    E = l2(ReLU(W_e x + b_e)); the released code calls it `visual_embedding`.

    Args:
        width: D; inputs are 2 D wide.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (..., 2 D) to unit rows (..., D)."""
        return unit_rows(self.linear(tokens).relu())


def init_published(layer: nn.Linear) -> None:
    """Draw weights from U(-r, r), r = √6 / √(in + out), biases 0, as the released code does."""
    radius = math.sqrt(6) / math.sqrt(layer.in_features + layer.out_features)
    nn.init.uniform_(layer.weight, -radius, radius)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
