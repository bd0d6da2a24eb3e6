"""A small image encoder that learns from random weights on a CPU: for demos and tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _Residual(nn.Module):
    """Two convolutions and the input added (He et al., CVPR 2016), (B, C, h, w) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = torch.relu(features + self.convolutions(features))
        return result


def tiny_image_encoder() -> nn.Module:
    """Build a small residual network: (B, 3, s, s) to a map (B, 192, s / 32, s / 32)."""

    def halve(inputs: int, outputs: int, size: int = 3, stride: int = 2) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    return nn.Sequential(
        *halve(3, 24, size=7, stride=4),
        *halve(24, 48),
        *halve(48, 96),
        _Residual(96),
        *halve(96, 192),
        _Residual(192),
    )
