"""Numerics that hold in every precision, and means and softmaxes that leave padding out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MASKED = -1e4
"""Added to the logits of padding: exp of it underflows to 0 in every precision, where minus
infinity would give NaN in a row that holds nothing but padding."""


def at_least_float32(values: Tensor) -> Tensor:
    """Widen half precisions to float32; return float32 and float64 as they are."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def unit_rows(values: Tensor) -> Tensor:
    """Divide rows (..., D) by their L2 norm; rows of zeros stay zero.

    The norm is taken in float32 or wider: the published guard of 1e-12 is 0 in half precision.
    """
    return F.normalize(at_least_float32(values), dim=-1).to(values.dtype)


def padding_bias(lengths: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Return what is added to logits over tokens, so that a softmax gives padding no weight.

    Args:
        lengths: (...) int64, tokens of each item.
        size: L, tokens that items are padded to.
        dtype: of the logits.

    Returns:
        (..., L): 0 for tokens, `MASKED` for padding.
    """
    padding = torch.arange(size, device=lengths.device) >= lengths[..., None]
    return padding.to(dtype) * MASKED


def mean_weights(lengths: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Return the weights whose product with padded tokens is the mean of an item's own.

    Args:
        lengths: (...) int64, tokens of each item, at least 1.
        size: L, tokens that items are padded to.
        dtype: of the tokens.

    Returns:
        (..., L): 1 / length for tokens, 0 for padding.
    """
    valid = torch.arange(size, device=lengths.device) < lengths[..., None]
    return valid.to(dtype) / lengths[..., None].to(dtype)
