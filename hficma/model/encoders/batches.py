"""What goes into and comes out of a model's encoders, a batch at a time, padded to one length.

RecipeIds of M recipes ──▶ RecipeBatch ──▶ recipe encoder ──▶ Tokens of M recipes
photos (B, s, s, 3) ────▶ ImageFeatures ─▶ image encoder ───▶ Tokens of B photos
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Tokens(NamedTuple):
    """N photos or N recipes as their encoders give them."""

    global_: Tensor
    """(N, D_g): an inner product of two of these is S_global."""
    tokens: Tensor | None
    """(N, L, D), padded rows zero; None for a model without a local part."""
    lengths: Tensor
    """(N,) int64: tokens that are not padding."""

    def select(self, items: Tensor | slice) -> Tokens:
        """Return some items.

        Args:
            items: their positions (K,) int64, or a slice of them.
        """
        tokens = None if self.tokens is None else self.tokens[items]
        return Tokens(self.global_[items], tokens, self.lengths[items])

    def to(self, device: torch.device) -> Tokens:
        """Return the same items on a device."""
        tokens = None if self.tokens is None else self.tokens.to(device)
        return Tokens(self.global_.to(device), tokens, self.lengths.to(device))

    def padded(self, size: int) -> Tokens:
        """Return the same items padded or cut to L = `size` tokens."""
        if self.tokens is None:
            return self
        missing = size - self.tokens.shape[1]  # F.pad cuts where it is negative
        return self._replace(tokens=F.pad(self.tokens, (0, 0, 0, missing)))

    def float(self) -> Tokens:
        """Return the same items in float32."""
        tokens = None if self.tokens is None else self.tokens.float()
        return Tokens(self.global_.float(), tokens, self.lengths)


class RecipeBatch(NamedTuple):
    """M recipes as the recipe encoder reads them, padded with zeros."""

    ingredients: Tensor
    """(M, T) int64 ids."""
    ingredient_counts: Tensor
    """(M,) int64."""
    sentences: Tensor
    """(M, S, D_s) sentence vectors; those of the texts where a text encoder alone reads recipes."""
    sentence_counts: Tensor
    """(M,) int64."""
    title_counts: Tensor
    """(M,) int64: how many of the sentences, the first ones, are the title."""
    texts: Tensor
    """(M, P, D_t) a text encoder's vectors; (M, 0, 0) without one."""
    text_fields: Tensor
    """(M, P) int64: the field of each text, 0 for padding."""

    def select(self, recipes: Tensor | slice) -> RecipeBatch:
        """Return some recipes.

        Args:
            recipes: their positions (K,) int64, or a slice of them.
        """
        return RecipeBatch(*(field[recipes] for field in self))


def texts_as_sentences(
    ingredients: Tensor, ingredient_counts: Tensor, texts: Tensor, text_fields: Tensor
) -> RecipeBatch:
    """Return recipes whose sentences are the texts of a text encoder, which alone reads them.

    Args:
        ingredients: (M, T) int64; this and the others are fields of a `RecipeBatch`.
        ingredient_counts: (M,) int64.
        texts: (M, P, D_t).
        text_fields: (M, P) int64.
    """
    counts = text_fields.clamp(0, 1).sum(dim=1)
    return RecipeBatch(ingredients, ingredient_counts, texts, counts, counts, texts, text_fields)


def concatenate_tokens(batches: Sequence[Tokens]) -> Tokens:
    """Return batches as one, padded to the longest item of all.

    Args:
        batches: of one kind of item, at least one.
    """
    lengths = torch.cat([batch.lengths for batch in batches])
    longest = int(lengths.max())
    tokens = [one for batch in batches if (one := batch.padded(longest).tokens) is not None]
    return Tokens(
        torch.cat([batch.global_ for batch in batches]),
        torch.cat(tokens) if tokens else None,
        lengths,
    )
