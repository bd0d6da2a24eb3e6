"""Vision transformers and networks like them, of Hugging Face's `transformers`, from a folder.

Of the folder are read: `config.json` (which network, of what sizes), `model.safetensors` or its
parts (weights) and `preprocessor_config.json` (see `folder_input.py`). Nothing is fetched, and no
code of the folder's own is run: its network must be one of those below.

| model_type | whole photo | regions |
| --- | --- | --- |
| vit, dinov2, dinov2_with_registers, dinov3_vit | class token | patches, without registers |
| clip | class token, normalised (before `visual_projection`) | patches |
| siglip, siglip2 | attention pooling | patches |
| convnext, convnextv2, dinov3_convnext | normalised mean | the last map |
| swin, swinv2 | mean | the last map |

Weights in a run are named as `transformers` names its network's, behind `trunk.network.`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from ....errors import InputError
from ....limits import reason
from ..fixed_shapes import fix_patch_grid, fix_rotary_positions, use_plain_pooling
from ..model_folder import (
    CONFIG,
    NOT_LAYERS,
    build_network,
    import_transformers,
    load_pretrained,
    read_model_json,
)
from .features import ImageFeatures


class _Tower(NamedTuple):
    """How a network is built and read."""

    network: str
    """Its class in `transformers`."""
    pooled: str
    """The whole photo in its output: `class` (the first token) or `pooler_output`."""
    arguments: Mapping[str, Any]
    """Of the constructor."""


_TOWERS = {
    "vit": _Tower("ViTModel", "class", {"add_pooling_layer": False}),
    "clip_vision_model": _Tower("CLIPVisionModel", "pooler_output", {}),
    "siglip_vision_model": _Tower("SiglipVisionModel", "pooler_output", {}),
    "siglip2_vision_model": _Tower("Siglip2VisionModel", "pooler_output", {}),
    "dinov2": _Tower("Dinov2Model", "class", {}),
    "dinov2_with_registers": _Tower("Dinov2WithRegistersModel", "class", {}),
    "dinov3_vit": _Tower("DINOv3ViTModel", "class", {}),
    "dinov3_convnext": _Tower("DINOv3ConvNextModel", "pooler_output", {}),
    "convnext": _Tower("ConvNextModel", "pooler_output", {}),
    "convnextv2": _Tower("ConvNextV2Model", "pooler_output", {}),
    "swin": _Tower("SwinModel", "pooler_output", {}),
    "swinv2": _Tower("Swinv2Model", "pooler_output", {}),
}
_PAIRS = {
    "clip": "clip_vision_model",
    "siglip": "siglip_vision_model",
    "siglip2": "siglip2_vision_model",
}
"""Models of photos and texts, whose `vision_config` is one of the networks above."""
_NOT_ARCHITECTURE = (
    *NOT_LAYERS, "_name_or_path", "_attn_implementation", "attn_implementation",
    "_attn_implementation_internal",
)  # fmt: skip
"""What of a configuration says nothing of layers, or names code that is not ours to run."""


class TransformersEncoder(nn.Module):
    """A network of `transformers`: (B, 3, s, s) to `ImageFeatures`.

    Args:
        network: the model.
        pooled: see `_Tower.pooled`.
        size: pixels a side, s.
    """

    def __init__(self, network: nn.Module, pooled: str, size: int) -> None:
        super().__init__()
        self.network = network
        self.pooled = pooled
        for module in network.modules():
            if hasattr(module, "probe"):
                use_plain_pooling(module)
        if hasattr(network, "rope_embeddings"):
            fix_rotary_positions(network.rope_embeddings, size)
        config: Any = network.config
        # Registers (DINO) are tokens that are about nothing; they stand behind the class token.
        self.prefix_tokens = _prefix_tokens(config)
        trained_size = getattr(config, "image_size", None)
        parameters = inspect.signature(network.forward).parameters
        self.options: dict[str, Any] = {}
        # Positions were learnt for one size; another takes those between.
        if trained_size not in (None, size) and "interpolate_pos_encoding" in parameters:
            self.options["interpolate_pos_encoding"] = True
        if "spatial_shapes" in parameters:
            fix_patch_grid(network.embeddings, size)
            # Every photo has all patches of the one grid.
            self.options |= {"spatial_shapes": None, "pixel_attention_mask": None}

    def forward(self, pixels: Tensor) -> ImageFeatures:
        """Run the network on normalised pixels."""
        output = self.network(pixel_values=pixels, **self.options)
        last: Tensor = output.last_hidden_state
        if last.ndim == 4:  # a map (B, C, h, w)
            return ImageFeatures(output.pooler_output, last.flatten(2).mT)
        pooled = last[:, 0] if self.pooled == "class" else output.pooler_output
        return ImageFeatures(pooled, last[:, self.prefix_tokens :])


def transformers_encoder(name: str, architecture: str, size: int, folder: Path | None) -> nn.Module:
    """Build a network from its architecture.

    Args:
        name: of the encoder, for messages.
        architecture: JSON text, from `folder_architecture`.
        size: pixels a side.
        folder: whose weights it begins with; None for random ones.

    Raises:
        InputError: no such network, or the folder's weights are missing, damaged or of another.
        MissingDependencyError: transformers is not installed.
    """
    try:
        record = json.loads(architecture)
        tower = _TOWERS[record["model_type"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"image encoder {name}: has no architecture that is known here") from error
    transformers = import_transformers("such an image encoder")
    kind = getattr(transformers, tower.network)
    try:
        config = kind.config_class.from_dict(record)
        network = build_network(kind, config, folder, **tower.arguments)
    except InputError:
        raise
    except Exception as error:  # whatever a network's own checks raise
        raise InputError(
            f"image encoder {name}: its architecture cannot be built ({reason(error)[:160]})"
        ) from error
    return TransformersEncoder(network, tower.pooled, size)


def folder_architecture(folder: Path) -> str:
    """Return what of a folder's `config.json` builds its image network again, as JSON text.

    Args:
        folder: of a Hugging Face model.

    Raises:
        InputError: no `config.json`, a damaged one, or a network that is not known here.
    """
    record = read_model_json(folder, CONFIG)
    kind = record.get("model_type")
    if kind in _PAIRS:
        vision = record.get("vision_config")
        record = dict(vision) if isinstance(vision, dict) else {}
        kind = record["model_type"] = _PAIRS[str(kind)]
    if kind not in _TOWERS:
        known = ", ".join(sorted({*_PAIRS, *_TOWERS} - set(_PAIRS.values())))
        raise InputError(
            f"{folder / CONFIG}: model_type {str(kind)[:40]} is no image encoder that is known "
            f"here; there are {known}"
        )
    architecture = {key: value for key, value in record.items() if key not in _NOT_ARCHITECTURE}
    return json.dumps(architecture, sort_keys=True)


def clip_visual_projection(folder: Path) -> Tensor:
    """Return the layer (D_g, C_p) that brings CLIP's photos into the space of its texts.

    Args:
        folder: of a whole CLIP.

    Raises:
        InputError: its weights cannot be read, or lack that layer.
    """
    kind = import_transformers("CLIP").CLIPVisionModelWithProjection
    weight: Tensor = load_pretrained(kind, folder).visual_projection.weight.detach()
    return weight


def _prefix_tokens(config: Any) -> int:
    """Return the tokens before those of the patches."""
    if config.model_type in ("siglip_vision_model", "siglip2_vision_model", "swin", "swinv2"):
        return 0
    return 1 + int(getattr(config, "num_register_tokens", 0) or 0)
