"""Builds an image encoder of any family, and measures what it gives."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ....errors import InputError
from ....images import ImageInput
from ...config import ImageConfig
from .efficientnet_lite import efficientnet_lite
from .features import ImageEncoder, ImageFeatures
from .timm_models import timm_encoder
from .tiny import tiny_image_encoder
from .torchvision_models import torchvision_encoder
from .transformers_models import transformers_encoder


def make_image_encoder(config: ImageConfig, weights: str | Path | None = None) -> ImageEncoder:
    """Build an image encoder.

    Args:
        config: which one; resolved, see `resolution.resolve_image_encoder`.
        weights: a file of its weights, the folder of a Hugging Face model, `torchvision` to
            download them, or None for random ones.

    Raises:
        InputError: no such encoder, it has no square grid of regions, or the weights do not fit.
    """
    return _measured(_trunk(config, weights), config)


def _trunk(config: ImageConfig, weights: str | Path | None) -> nn.Module:
    """Return the network of a configuration."""
    if config.pooled == "stages" and config.family != "efficientnet-lite":
        raise InputError(
            f"model.image.pooled=stages: {config.encoder} gives one vector of a photo; leave it out"
        )
    if config.encoder == "tiny":
        if weights is not None:
            raise InputError(
                "image encoder tiny: has no weights to load; leave trunk.weights out, and it is "
                "trained from random ones"
            )
        return tiny_image_encoder()
    if config.family == "efficientnet-lite":
        return efficientnet_lite(config.encoder, weights, stages=config.pooled == "stages")
    if config.family == "timm":
        return timm_encoder(config.encoder, (config.input or ImageInput()).size, weights)
    if config.family == "transformers":
        folder = None if weights is None else Path(weights)
        size = (config.input or ImageInput()).size
        return transformers_encoder(config.encoder, config.architecture, size, folder)
    return torchvision_encoder(config.encoder, weights)


def _measured(trunk: nn.Module, config: ImageConfig) -> ImageEncoder:
    """Return a network with the sizes of what it gives, which no computing is needed for."""
    name, size = config.encoder, (config.input or ImageInput()).size
    # Shapes without numbers: a run of a large network would take seconds at every opening.
    tensors = {**dict(trunk.named_parameters()), **dict(trunk.named_buffers())}
    shapes = {key: tensor.detach().to("meta") for key, tensor in tensors.items()}
    pixels = torch.empty(1, 3, size, size, device="meta")
    training = trunk.training
    trunk.eval()
    try:
        with torch.no_grad():
            result: Any = torch.func.functional_call(trunk, shapes, (pixels,))
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"image encoder {name}: is no convolutional network; take resnet50 or mobilenet_v2"
        ) from error
    finally:
        trunk.train(training)
    if isinstance(result, ImageFeatures):
        assert result.regions is not None
        _, regions, channels = result.regions.shape
        pooled_width = result.pooled.shape[1]
    else:
        if result.ndim != 4 or result.shape[2] != result.shape[3]:
            raise InputError(
                f"image encoder {name}: ends at {tuple(result.shape[1:])}, not at a square map of "
                "regions; take resnet50 or mobilenet_v2"
            )
        channels = pooled_width = result.shape[1]
        regions = result.shape[2] * result.shape[3]
    side = math.isqrt(regions)
    if side**2 != regions:
        raise InputError(
            f"image encoder {name}: its {regions} regions are no square; give another "
            "model.image.input.size, or another encoder"
        )
    grid = side if config.grid is None else config.grid
    if grid > side:
        raise InputError(
            f"model.image.grid={grid}: {name} has {side} x {side} regions; give as many or fewer, "
            "or a larger model.image.input.size"
        )
    return ImageEncoder(
        trunk=trunk,
        pooled_parts=getattr(trunk, "pooled_parts", (pooled_width,)),
        channels=channels,
        grid=grid,
        pools_regions=not isinstance(result, ImageFeatures),
    )
