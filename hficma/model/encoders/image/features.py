"""What an image encoder gives of a photo: one vector of the whole, and one of each region.

A convolutional classifier ends at a map of features; the whole is then the mean of its regions. A
transformer has a vector of the whole of its own (a class token, a pooling head) beside the tokens
of its patches, which are the regions. Everything behind the encoder reads both as `ImageFeatures`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...numerics import at_least_float32

torch.fx.wrap("at_least_float32")  # traced as a call: it asks for a type that a trace has not


class ImageFeatures(NamedTuple):
    """B photos as an image encoder gives them."""

    pooled: Tensor
    """(B, C_p): of the whole photo."""
    regions: Tensor | None
    """(B, R, C): of its regions, row by row; None where nothing reads them and they were left out
    of a cache."""

    def to(self, device: torch.device) -> ImageFeatures:
        """Return the same photos on a device."""
        regions = None if self.regions is None else self.regions.to(device)
        return ImageFeatures(self.pooled.to(device), regions)


@dataclass(frozen=True, kw_only=True)
class ImageEncoder:
    """A network with the sizes of what it gives."""

    trunk: nn.Module
    """Normalised pixels (B, 3, s, s) to a map (B, C, h, w), or to `ImageFeatures`."""
    pooled_parts: tuple[int, ...]
    """Widths of the vectors that the whole's vector is put together of; C_p is their sum."""
    channels: int
    """C."""
    grid: int
    """Regions a side: R = grid²."""
    pools_regions: bool
    """Whether the whole is the mean of the regions, so that what is done to these, such as hiding
    some, is done to it."""

    @property
    def pooled_width(self) -> int:
        """Return C_p."""
        return sum(self.pooled_parts)


def mean_pooled(regions: Tensor) -> ImageFeatures:
    """Return features whose whole is the mean of its regions.

    Args:
        regions: (B, R, C); the mean is taken in float32 at least.
    """
    return ImageFeatures(at_least_float32(regions).mean(dim=1), regions)


def image_features(trunk: nn.Module, pixels: Tensor) -> ImageFeatures:
    """Run an image encoder.

    Args:
        trunk: see `ImageEncoder`.
        pixels: (B, 3, s, s), normalised.
    """
    result = trunk(pixels)
    return result if isinstance(result, ImageFeatures) else mean_pooled(result.flatten(2).mT)


def pool_regions(regions: Tensor, grid: int) -> Tensor:
    """Return the means of a square grid's regions over the cells of a coarser one.

        0 1 2 3 4      5 a side to 2 a side: a cell is the rows and columns that it touches, so
        └─┴─┘          that the middle ones count in both cells
            └─┴─┘

    Args:
        regions: (B, R, C), row by row.
        grid: regions a side of the coarser one; a grid that is no finer stays as it is.

    Returns:
        (B, grid², C).
    """
    side = math.isqrt(int(regions.shape[1]))
    if side <= grid:
        return regions
    # A product with a constant matrix: every runtime has it, where few have adaptive pooling.
    weights = torch.zeros(grid, side, dtype=regions.dtype, device=regions.device)
    for cell in range(grid):
        first, end = cell * side // grid, -(-(cell + 1) * side // grid)
        weights[cell, first:end] = 1 / (end - first)
    return torch.kron(weights, weights) @ regions
