"""The first layer of every model: photos as bytes to the scale that its image encoder reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ....images import ImageInput


class Normalize(nn.Module):
    """Brings uint8 photos to the mean and deviation of an image encoder's input, channels first.

    Args:
        image_input: of the encoder.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, image_input: ImageInput) -> None:
        super().__init__()
        for name in ("mean", "deviation"):
            values = torch.tensor(getattr(image_input, name))
            self.register_buffer(name, 255 * values.view(3, 1, 1), persistent=False)

    def forward(self, photos: Tensor) -> Tensor:
        """Map photos (B, s, s, 3), uint8, to normalised floats (B, 3, s, s)."""
        # Cast first: TensorRT takes uint8 as an input, but only casts can read it.
        pixels = photos.to(self.mean.dtype, copy=True).permute(0, 3, 1, 2)
        # In place: 38 MB less to write, twice, for 64 photos.
        return pixels.sub_(self.mean).div_(self.deviation)
