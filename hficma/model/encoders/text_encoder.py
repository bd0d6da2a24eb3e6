"""Text encoders that people have: sentence-transformers, and the text towers of CLIP and SigLIP.

    token ids (S, W), lengths (S,) ──▶ transformer ──▶ pooling ──▶ unit vectors (S, D_t)

The layers are those of the package `transformers`, which training and export need and serving does
not: there the graph `text` runs. What this file adds is what a graph needs: masks made of lengths,
positions and pooling by plain operators, for any number and length of texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...limits import reason
from ...text.text_architecture import TextArchitecture
from ..numerics import MASKED, mean_weights, padding_bias, unit_rows
from .fixed_shapes import fix_position_buckets
from .model_folder import build_network, import_transformers

_CLASSES = {
    "bert": ("BertConfig", "BertModel"),
    "roberta": ("RobertaConfig", "RobertaModel"),
    "xlm-roberta": ("XLMRobertaConfig", "XLMRobertaModel"),
    "mpnet": ("MPNetConfig", "MPNetModel"),
    "distilbert": ("DistilBertConfig", "DistilBertModel"),
    "clip": ("CLIPTextConfig", "CLIPTextModelWithProjection"),
    "siglip": ("SiglipTextConfig", "SiglipTextModel"),
    "siglip2": ("Siglip2TextConfig", "Siglip2TextModel"),
}
"""Names in `transformers` of an architecture's configuration and layers."""
_WITH_POOLER = ("bert", "roberta", "xlm-roberta", "mpnet")
"""Those whose class asks whether to add a pooler."""
_POSITIONS_FROM_PAD = ("roberta", "xlm-roberta", "mpnet")
"""Those whose first position is behind the padding's id."""


class TextEncoder(nn.Module):
    """A pretrained transformer over the tokens of a text.

    Args:
        architecture: which layers, and how their tokens become one vector.
        weights: folder with its weights; None for random ones, which a checkpoint replaces.

    Attributes:
        width: D_t.
    """

    def __init__(self, architecture: TextArchitecture, weights: Path | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        self.width = architecture.width
        self.model = _layers(architecture, weights)
        if architecture.model_type == "mpnet":
            fix_position_buckets(self.model.encoder, architecture.longest)

    @property
    def reads_lengths(self) -> bool:
        """Return whether lengths are read: SigLIP's texts all have the same."""
        return self.architecture.pad is None

    def forward(self, word_ids: Tensor, lengths: Tensor) -> Tensor:
        """Encode texts.

        Args:
            word_ids: (S, W) int64; what stands past a text's length is not read.
            lengths: (S,) int64.

        Returns:
            (S, D_t), of unit length.
        """
        kind, size = self.architecture.model_type, word_ids.shape[1]
        if kind in ("siglip", "siglip2"):
            # Trained on texts filled up with padding, which it reads like any token.
            return unit_rows(self.model(input_ids=word_ids).pooler_output)
        dtype = next(self.model.parameters()).dtype
        places = torch.arange(size, device=word_ids.device)
        if kind == "clip":
            # A token reads those before it alone, so that padding, which comes last, needs no mask.
            later = (places >= places[:, None] + 1).to(dtype) * MASKED
            mask = later[None, None].expand(word_ids.shape[0], 1, -1, -1)
        else:
            bias = padding_bias(lengths, size, dtype)
            mask = bias[:, None, None].expand(-1, 1, size, -1)
        arguments = {"input_ids": word_ids, "attention_mask": mask, "position_ids": places[None]}
        if kind in _POSITIONS_FROM_PAD:
            arguments["position_ids"] = places[None] + (self.model.config.pad_token_id + 1)
        if kind in ("bert", "roberta", "xlm-roberta"):
            arguments["token_type_ids"] = torch.zeros_like(word_ids)
        tower = self.model.text_model if kind == "clip" else self.model
        states = tower(**arguments).last_hidden_state  # (S, W, D)
        if self.architecture.pooling == "mean":
            weights = mean_weights(lengths, size, states.dtype)
            pooled = (weights[:, None] @ states)[:, 0]
        elif self.architecture.pooling == "cls":
            pooled = states[:, 0]
        else:
            last = (lengths - 1)[:, None, None].expand(-1, -1, states.shape[2])
            pooled = states.gather(1, last)[:, 0]
        return unit_rows(self.model.text_projection(pooled) if kind == "clip" else pooled)


def _layers(architecture: TextArchitecture, folder: Path | None) -> Any:
    """Return an architecture's layers, with the weights of a folder or with random ones."""
    config, model = _classes(architecture.model_type)
    # Some would come with a layer over the first token, which nothing here reads.
    options = {"add_pooling_layer": False} if architecture.model_type in _WITH_POOLER else {}
    try:
        return build_network(model, config(**architecture.config), folder, **options)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise InputError(f"the text encoder cannot be built ({reason(error)[:160]})") from error


def text_config(kind: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration of a dual encoder's text tower, its defaults filled in.

    Args:
        kind: `clip`, `siglip` or `siglip2`.
        config: the whole model's `config.json`.
    """
    tower = config.get("text_config") or {}
    defaults, _ = _classes(kind)
    settings: Mapping[str, Any] = defaults(**tower).to_dict()
    return settings


def _classes(kind: str) -> tuple[Any, Any]:
    """Return the library's classes of an architecture's configuration and layers."""
    library = import_transformers("this text encoder")
    config, model = _CLASSES[kind]
    return getattr(library, config), getattr(library, model)
