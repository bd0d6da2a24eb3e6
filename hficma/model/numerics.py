"""Numerics that hold in every precision."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def at_least_float32(values: Tensor) -> Tensor:
    """Half precisions widened to float32; float32 and float64 as they are."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def unit_rows(values: Tensor) -> Tensor:
    """Rows (..., D) divided by their L2 norm, zero rows left zero.

    The norm is taken in float32 or wider: the published guard of 1e-12 is 0 in half precision.
    """
    return F.normalize(at_least_float32(values), dim=-1).to(values.dtype)
