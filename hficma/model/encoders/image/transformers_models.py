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
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....errors import InputError
from ....limits import reason
from ..model_folder import CONFIG, import_transformers, read_model_json
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
    "architectures", "auto_map", "dtype", "id2label", "label2id", "problem_type",
    "quantization_config", "torch_dtype", "transformers_version", "_name_or_path",
    "_attn_implementation", "attn_implementation", "_attn_implementation_internal",
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
                _use_plain_pooling(module)
        if hasattr(network, "rope_embeddings"):
            _fix_rotary_positions(network.rope_embeddings, size)
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
            _fix_patch_grid(network.embeddings, size)
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


def _use_plain_pooling(head: Any) -> None:
    """Let SigLIP's attention pooling compute by plain products, with the weights that it has.

    torch's own `MultiheadAttention` is exported with operators that work sizes out at every run.

    Args:
        head: of the image tower, changed in place.
    """

    class PlainPooling(type(head)):  # type: ignore[misc]
        """The same layers and names of weights."""

        def forward(self, hidden_state: Tensor, attention_mask: None = None) -> Tensor:
            """Pool tokens (B, R, C) to (B, C); there is no padding among them."""
            attention = self.attention
            width, count = attention.embed_dim, attention.num_heads
            weights = attention.in_proj_weight.split(width)
            biases = attention.in_proj_bias.split(width)

            def heads(tokens: Tensor, part: int) -> Tensor:
                """Project tokens and part them by head: (B, H, R, C / H)."""
                projected = F.linear(tokens, weights[part], biases[part])
                parted = projected.reshape(tokens.shape[0], -1, count, width // count)
                return parted.transpose(1, 2)

            query, key, value = heads(self.probe, 0), heads(hidden_state, 1), heads(hidden_state, 2)
            logits = query @ key.mT / math.sqrt(width // count)
            read = (torch.softmax(logits, dim=-1) @ value).transpose(1, 2).flatten(2)
            pooled = attention.out_proj(read)
            result: Tensor = pooled + self.mlp(self.layernorm(pooled))
            return result[:, 0]

    # By class: a copy of the network must read the copy's weights.
    head.__class__ = PlainPooling


def _fix_rotary_positions(positions: Any, size: int) -> None:
    """Let DINOv3's rotary positions be constants, those of the one size that the encoder reads.

    Worked out from the pixels' shape they would be exported with a branch for every shape.

    Args:
        positions: the module that gives them, changed in place.
        size: pixels a side.
    """
    with torch.no_grad():
        cosines, sines = type(positions).forward(positions.eval(), torch.zeros(1, 3, size, size))
    # Not among the weights: names in runs stay those of the library.
    positions.register_buffer("cosines", cosines, persistent=False)
    positions.register_buffer("sines", sines, persistent=False)

    class FixedPositions(type(positions)):  # type: ignore[misc]
        """The same module; in training it stretches positions at random, as it always did."""

        def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
            """Return cosines and sines (R, D / H) of pixels (B, 3, s, s)."""
            if self.training:
                return cast(tuple[Tensor, Tensor], super().forward(pixel_values))
            kind = pixel_values.dtype
            return self.cosines.to(kind), self.sines.to(kind)

    # By class: a copy of the network must read the copy's constants.
    positions.__class__ = FixedPositions


def _fix_patch_grid(embeddings: Any, size: int) -> None:
    """Let SigLIP 2's NaFlex read squares of one size in place of patches of any shape of photo.

    It was trained on photos of every shape, cut into patches before they reach the network, and
    stretches its positions to each photo's grid. Graphs have one shape of input: that of a square
    photo, which NaFlex's own preprocessing cuts into the same patches.

        pixels (B, 3, s, s) ──▶ patches (B, R, p p 3), row by row, a patch's colours innermost

    Args:
        embeddings: of the image tower, changed in place.
        size: pixels a side, s.

    Raises:
        InputError: the size is no whole number of patches.
    """
    patch = int(embeddings.patch_size)
    if size % patch:
        raise InputError(
            f"model.image.input.size={size}: is no multiple of {patch}, a patch's side"
        )
    grid, trained = size // patch, int(embeddings.position_embedding_size)
    # Stretching is linear in the positions, so that those of unit vectors are its matrix (R, R').
    # On the CPU, for it looks at the numbers, which a network without any (`meta`) has not.
    unit = torch.eye(trained**2, device="cpu").reshape(trained, trained, trained**2)
    shape = torch.tensor([[grid, grid]], device="cpu")
    stretch = embeddings.resize_positional_embeddings(unit, shape, max_length=grid**2)[0]
    embeddings.register_buffer("stretch", stretch, persistent=False)

    class FixedGrid(type(embeddings)):  # type: ignore[misc]
        """The same layers and names of weights."""

        def forward(self, pixel_values: Tensor, spatial_shapes: None) -> Tensor:
            """Embed pixels (B, 3, s, s) as tokens (B, R, C)."""
            parted = pixel_values.reshape(-1, 3, grid, patch, grid, patch)
            patches = parted.permute(0, 2, 4, 3, 5, 1).reshape(-1, grid**2, patch * patch * 3)
            positions = self.position_embedding.weight
            if grid != trained:
                positions = self.stretch.to(positions.dtype) @ positions
            tokens: Tensor = self.patch_embedding(patches) + positions
            return tokens

    # By class: a copy of the network must read the copy's weights.
    embeddings.__class__ = FixedGrid


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
        # Plain products and a softmax: every network has it, and every runtime its operators.
        config._attn_implementation = "eager"
        network = (
            kind(config, **tower.arguments)
            if folder is None
            else _with_weights(kind, config, tower, folder)
        )
    except InputError:
        raise
    except Exception as error:  # whatever a network's own checks raise
        raise InputError(
            f"image encoder {name}: its architecture cannot be built ({reason(error)[:160]})"
        ) from error
    return TransformersEncoder(network.float(), tower.pooled, size)


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
    try:
        model, info = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # every part of the library has its own kinds
        raise InputError(f"{folder}: its weights cannot be read ({reason(error)[:160]})") from error
    if any("visual_projection" in name for name in info["missing_keys"]):
        raise InputError(f"{folder}: its weights lack visual_projection")
    weight: Tensor = model.visual_projection.weight.detach().float()
    return weight


def _with_weights(kind: Any, config: Any, tower: _Tower, folder: Path) -> nn.Module:
    """Return a network with the weights of a folder; all of its own must be there."""
    files = ("model.safetensors", "model.safetensors.index.json")
    if not any((folder / file).is_file() for file in files):
        raise InputError(
            f"{folder}: has no model.safetensors; weights of other kinds can hide code and are "
            "not read"
        )
    try:
        network, loading = kind.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            attn_implementation="eager",
            **tower.arguments,
        )
    except Exception as error:  # safetensors' own kind, and those of every layer below
        raise InputError(
            f"{folder}: its model.safetensors cannot be read, or is of another network than its "
            f"config.json ({reason(error)[:160]})"
        ) from error
    lacking = sorted(loading["missing_keys"])
    if lacking:
        raise InputError(
            f"{folder}: its model.safetensors lacks {len(lacking)} weights of the network of its "
            f"config.json, such as {lacking[0]}"
        )
    built: nn.Module = network
    return built


def _prefix_tokens(config: Any) -> int:
    """Return the tokens before those of the patches."""
    if config.model_type in ("siglip_vision_model", "siglip2_vision_model", "swin", "swinv2"):
        return 0
    return 1 + int(getattr(config, "num_register_tokens", 0) or 0)
