"""EfficientNet-Lite 0 to 2: EfficientNet without what makes it slow on small processors.

Against EfficientNet (Tan and Le, ICML 2019) it has no squeeze-and-excitation, ReLU6 in place of
swish, and a stem and head that do not grow; TensorFlow's repository describes it (tpu/models,
efficientnet/lite). Its weights were trained there, so that it pads as TensorFlow does: "SAME", one
row more at the end than at the start where an even number is missing. Padded as PyTorch pads, every
strided layer would look half a pixel beside where it learnt to.

Weights files as they circulate for PyTorch are read: `_conv_stem.weight` there is
`conv_stem.weight` here, `_blocks.3._bn0.bias` is `blocks_3.bn0.bias`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....errors import InputError
from ....images import ImageInput
from ...numerics import at_least_float32
from .features import ImageFeatures, mean_pooled
from .weights_file import load_weights_file

torch.fx.wrap("at_least_float32")  # traced as a call: it asks for a type that a trace has not

SIZES = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}
"""Pixels a side of each network's input."""
CHANNELS = 1280
"""C: channels of the last map."""

FIRST_STAGE = 2
"""The first stage, from 0, whose mean `stages` gives: those before see edges alone."""

_SCALES = {
    "efficientnet-lite0": (1.0, 1.0),
    "efficientnet-lite1": (1.0, 1.1),
    "efficientnet-lite2": (1.1, 1.2),
}
"""How many times as wide, and as deep, as Lite0 each is."""
_STAGES = (
    # layers, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def lite_input(name: str) -> ImageInput:
    """Return what one of the networks reads: (255 x - 127) / 128 of values x from 0 to 1.

    Args:
        name: of `SIZES`.
    """
    size = SIZES[name]
    # TensorFlow's evaluation cuts the centre s / (s + 32) of the photo and scales that, bicubic.
    return ImageInput(
        size=size,
        short_side=size + 32,
        interpolation="bicubic",
        mean=(127 / 255,) * 3,
        deviation=(128 / 255,) * 3,
    )


def efficientnet_lite(name: str, weights: str | Path | None, *, stages: bool = False) -> nn.Module:
    """Build one of the networks.

    Args:
        name: of `SIZES`.
        weights: a file of its weights, or None for random ones.
        stages: give the means of the stages' maps too.

    Returns:
        (B, 3, s, s) to a map (B, 1280, h, w), or with `stages` to `ImageFeatures`.

    Raises:
        InputError: no such network, or the weights do not fit.
    """
    if name not in SIZES:
        raise InputError(f"image encoder {name}: there are {', '.join(SIZES)}")
    network = _network(name, stages=stages)
    if weights is not None:
        load_weights_file(network, Path(weights), name, unused=("fc.",), rename=_name_here)
    return network


def _network(name: str, *, stages: bool) -> nn.Sequential:
    """Return a network with random weights: its layers one behind the other, as export cuts them.

    The classifier is left out.
    """
    width, depth = _SCALES[name]
    inputs = 32
    layers: dict[str, nn.Module] = {
        "padding": _SamePadding(3),
        "conv_stem": nn.Conv2d(3, inputs, 3, stride=2, bias=False),
        "bn0": _normalisation(inputs),
        "relu0": nn.ReLU6(inplace=True),
    }
    blocks = 0
    ends: dict[str, int] = {}
    for number, (count, kernel, stride, expansion, channels) in enumerate(_STAGES):
        outputs = _scaled_channels(channels, width)
        fixed = number in (0, len(_STAGES) - 1)  # the first and the last stage keep their depth
        for layer in range(count if fixed else math.ceil(count * depth)):
            step = 1 if layer else stride
            layers[f"blocks_{blocks}"] = _Block(inputs, outputs, kernel, step, expansion)
            inputs, blocks = outputs, blocks + 1
        if number >= FIRST_STAGE:
            ends[f"blocks_{blocks - 1}"] = inputs
    layers |= {
        "conv_head": nn.Conv2d(inputs, CHANNELS, 1, bias=False),
        "bn1": _normalisation(CHANNELS),
        "relu1": nn.ReLU6(inplace=True),
    }
    return StagedNetwork(layers, ends) if stages else nn.Sequential(OrderedDict(layers))


def _name_here(name: str) -> str:
    """Return what a weight of a weights file is called here."""
    return name.removeprefix("_").replace("blocks.", "blocks_").replace("._", ".")


class StagedNetwork(nn.Sequential):
    """The same layers, which give the means of the stages' maps beside that of the last one.

    Args:
        layers: by name, in their order.
        ends: channels of each stage by the name of its last layer, in their order.

    Attributes:
        ends: the same.
        pooled_parts: widths of the vectors that the whole is put together of: the last map's mean
            and each stage's, all of the stages as one.
    """

    def __init__(self, layers: dict[str, nn.Module], ends: dict[str, int]) -> None:
        super().__init__(OrderedDict(layers))
        self.ends = ends
        self.pooled_parts = (CHANNELS, sum(ends.values()))

    def forward(self, pixels: Tensor) -> ImageFeatures:
        features, means = pixels, []
        for name, layer in self.named_children():
            features = layer(features)
            if name in self.ends:
                means.append(at_least_float32(features).mean(dim=(2, 3)))
        whole, regions = mean_pooled(features.flatten(2).mT)
        return ImageFeatures(torch.cat([whole, *means], dim=1), regions)


class _Block(nn.Module):
    """An inverted residual (Sandler et al., CVPR 2018): widened, filtered, narrowed, added."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.expands = expansion > 1
        if self.expands:
            self.expand_conv = nn.Conv2d(inputs, width, 1, bias=False)
            self.bn0 = _normalisation(width)
        self.padding = _SamePadding(kernel) if stride == 2 else nn.Identity()
        # Without a stride, SAME is as much on either side.
        around = kernel // 2 if stride == 1 else 0
        self.depthwise_conv = nn.Conv2d(
            width, width, kernel, stride, padding=around, groups=width, bias=False
        )
        self.bn1 = _normalisation(width)
        self.project_conv = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn2 = _normalisation(outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        features = inputs
        if self.expands:
            features = F.relu6(self.bn0(self.expand_conv(features)))
        features = F.relu6(self.bn1(self.depthwise_conv(self.padding(features))))
        features = self.bn2(self.project_conv(features))
        result: Tensor = inputs + features if self.adds else features
        return result


class _SamePadding(nn.Module):
    """What TensorFlow's "SAME" adds around the input of a convolution of stride 2.

    5 pixels, kernel 3, stride 2        6 pixels, kernel 3, stride 2
    . 0 1 2 3 4 .    one a side         0 1 2 3 4 5 .    none before, one behind
    └─┬─┘                               └─┬─┘
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, inputs: Tensor) -> Tensor:
        padding: list[int] = []
        for length in (inputs.shape[3], inputs.shape[2]):
            # A traced graph is of one size: computed paddings would be operators at every run.
            length = int(length) if torch.onnx.is_in_onnx_export() else length
            missing = self.kernel - 2 + length % 2
            padding += [missing // 2, missing - missing // 2]
        return F.pad(inputs, padding)


def _normalisation(channels: int) -> nn.BatchNorm2d:
    """Return a batch normalisation with TensorFlow's constants for these networks."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _scaled_channels(channels: int, width: float) -> int:
    """Return channels times the width, to the nearest 8, and not a tenth less than asked for."""
    scaled = channels * width
    nearest = max(8, int(scaled + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * scaled else nearest
