"""Finds out which image encoder a user means, and writes down all that building it again takes.

Once, when training begins: a run and the bundles made of it carry the architecture and the input,
so that the folder or the file that the weights came from may be gone by then.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ....errors import InputError
from ...config import ImageConfig
from ..model_folder import CONFIG
from .efficientnet_lite import SIZES, lite_input
from .folder_input import folder_input
from .timm_models import has_timm_model, timm_input
from .torchvision_models import has_torchvision_model
from .transformers_models import folder_architecture


class ResolvedEncoder(NamedTuple):
    """An image encoder as a run records it, and where its first weights are."""

    config: ImageConfig
    """With family, architecture and input filled in."""
    weights: str | Path | None
    """As `make_image_encoder` takes them."""


def resolve_image_encoder(config: ImageConfig, weights: str | Path | None) -> ResolvedEncoder:
    """Return an image encoder's configuration with what its own files say filled in.

    What the configuration says already stays: a size of the user's own, or all of it where the
    encoder was resolved before.

    Args:
        config: as options give it; `encoder` is a name, or the folder of a Hugging Face model.
        weights: a file of weights, `torchvision` to download them, or None for random ones.

    Raises:
        InputError: the folder lacks a file, or is of an architecture that cannot be read.
    """
    if config.encoder in SIZES:
        image_input = config.input or lite_input(config.encoder)
        return ResolvedEncoder(
            replace(config, family="efficientnet-lite", input=image_input), weights
        )
    if config.family == "transformers" and config.architecture:
        return ResolvedEncoder(config, weights)
    folder = Path(config.encoder).expanduser()
    if (folder / CONFIG).is_file() or (folder.is_dir() and len(folder.parts) > 1):
        return _resolved_folder(config, folder)
    if len(folder.parts) > 1:
        raise InputError(
            f"model.image.encoder={config.encoder}: no such folder; give the folder of a Hugging "
            "Face model (config.json, model.safetensors, preprocessor_config.json), or a name"
        )
    if config.family == "timm" or _is_timms(config.encoder):
        image_input = config.input or timm_input(config.encoder)
        return ResolvedEncoder(replace(config, family="timm", input=image_input), weights)
    return ResolvedEncoder(config, weights)


def _is_timms(name: str) -> bool:
    """Return whether timm has a network that torchvision, which comes first, has not."""
    return name != "tiny" and not has_torchvision_model(name) and has_timm_model(name)


def _resolved_folder(config: ImageConfig, folder: Path) -> ResolvedEncoder:
    """Return the configuration of a Hugging Face model's folder; its weights are in it."""
    architecture = folder_architecture(folder)
    return ResolvedEncoder(
        replace(
            config,
            encoder=folder.resolve().name,
            family="transformers",
            architecture=architecture,
            input=config.input or folder_input(folder),
        ),
        folder,
    )
