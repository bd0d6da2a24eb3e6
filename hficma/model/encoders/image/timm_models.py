"""Networks of `timm` by name, from a file of weights; their input is what timm records of them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from ....errors import InputError, MissingDependencyError
from ....images import ImageInput
from ....images.image_input import Triple
from .features import ImageFeatures
from .torchvision_models import import_torchvision
from .weights_file import load_weights_file

_INTERPOLATIONS: Mapping[str, Literal["bilinear", "bicubic", "lanczos"]] = {
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "lanczos": "lanczos",
}


class TimmEncoder(nn.Module):
    """A network of timm: (B, 3, s, s) to `ImageFeatures`, pooled as its own head pools.

    Args:
        network: without its classifier.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> ImageFeatures:
        """Run the network on normalised pixels."""
        network: Any = self.network
        features = network.forward_features(pixels)
        pooled: Tensor = network.forward_head(features, pre_logits=True)
        if features.ndim == 3:  # tokens, of which the first may be about no place
            return ImageFeatures(pooled, features[:, getattr(network, "num_prefix_tokens", 0) :])
        if getattr(network, "output_fmt", "NCHW") == "NHWC":  # Swin's maps
            return ImageFeatures(pooled, features.flatten(1, 2))
        return ImageFeatures(pooled, features.flatten(2).mT)


def has_timm_model(name: str) -> bool:
    """Return whether timm is installed and has a network of this name."""
    try:
        return bool(_timm().is_model(name))
    except MissingDependencyError:
        return False


def timm_encoder(name: str, size: int, weights: str | Path | None) -> nn.Module:
    """Build a network of timm, without its classifier.

    Args:
        name: such as `vit_small_patch16_224`.
        size: pixels a side.
        weights: a file of its weights, or None for random ones.

    Raises:
        InputError: no such network, not of this size, or the weights do not fit.
        MissingDependencyError: timm is not installed.
    """
    timm = _timm()
    options: dict[str, Any] = {"pretrained": False, "num_classes": 0}
    try:
        try:
            network = timm.create_model(name, img_size=size, **options)
        except TypeError:  # networks of convolutions take any size, and no such argument
            network = timm.create_model(name, **options)
    except Exception as error:  # timm's own kinds, by what is wrong
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"image encoder {name}: timm cannot build it ({reason[:160]})") from error
    if weights is not None:
        heads = ("head.", "classifier.", "fc.", "head_dist.")
        load_weights_file(network, Path(weights), name, unused=heads)
    return TimmEncoder(network)


def timm_input(name: str) -> ImageInput:
    """Return the pixels that a network of timm reads, as timm records them.

    Raises:
        InputError: it asks for what photos are not brought to here.
    """
    record = _timm().get_pretrained_cfg(name).to_dict()
    interpolation = _INTERPOLATIONS.get(record.get("interpolation", "bicubic"))
    if interpolation is None:
        raise InputError(f"image encoder {name}: interpolation {record['interpolation']}")
    size = int(record["input_size"][-1])
    squashed = record.get("crop_mode") == "squash"
    return ImageInput(
        size=size,
        # As timm's evaluation: the crop is so much of the photo's shorter side, rounded down.
        short_side=max(size, int(size / float(record.get("crop_pct", 0.875)))),
        resize="squash" if squashed else "shorter",
        interpolation=interpolation,
        longer_side="truncate",
        mean=_triple(record["mean"]),
        deviation=_triple(record["std"]),
    )


def _triple(values: Sequence[float]) -> Triple:
    """Return three numbers as a tuple."""
    red, green, blue = map(float, values)
    return red, green, blue


def _timm() -> Any:
    """Import timm, which imports torchvision."""
    with contextlib.suppress(MissingDependencyError):  # it says so itself
        import_torchvision()
    try:
        import timm
    except ImportError as error:
        raise MissingDependencyError("timm", "encoders", "an image encoder of timm's") from error
    return timm
