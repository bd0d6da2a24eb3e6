"""Tiny models of every family, saved as people have them: a folder of three files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from hficma.model.encoders.image.torchvision_models import import_torchvision

PATCHES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
STAGES = {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}
WINDOWS = {
    "image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2],
    "window_size": 4,
}  # fmt: skip
FLEXIBLE = {key: value for key, value in PATCHES.items() if key != "image_size"} | {
    "num_patches": 16
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViTModel", PATCHES),
    "clip": ("CLIPModel", PATCHES),
    "siglip": ("SiglipModel", PATCHES),
    "siglip2": ("Siglip2Model", FLEXIBLE),
    "dinov2": ("Dinov2Model", PATCHES | {"image_size": 56}),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", PATCHES),
    "dinov3_vit": ("DINOv3ViTModel", PATCHES | {"num_register_tokens": 4}),
    "dinov3_convnext": ("DINOv3ConvNextModel", STAGES),
    "convnext": ("ConvNextModel", STAGES),
    "convnextv2": ("ConvNextV2Model", STAGES),
    "swin": ("SwinModel", WINDOWS),
    "swinv2": ("Swinv2Model", WINDOWS),
}
"""The class of each model_type, and what makes it tiny."""
TEXT = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "vocab_size": 50,
}  # fmt: skip
SQUASHED = {
    "image_processor_type": "ViTImageProcessor",
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.25, 0.2],
    "resample": 2,
    "size": {"height": 32, "width": 32},
}
"""What a processor that scales the whole photo to 32 x 32 writes down."""


def transformers() -> Any:
    """The library, which imports torchvision."""
    import_torchvision()
    import transformers

    return transformers


def save_folder(kind: str, folder: Path) -> Any:
    """Save a random model of a kind as a folder, and return its image network."""
    library = transformers()
    name, options = MODELS[kind]
    model_class = getattr(library, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind in ("clip", "siglip", "siglip2"):
            config = model_class.config_class(vision_config=options, text_config=TEXT)
            model = model_class(config).eval()
            network = model.vision_model
        else:
            network = model = model_class(model_class.config_class(**options)).eval()
        for parameter in model.parameters():
            # Fresh layer scales and biases are so small that a forgotten layer would not show.
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(SQUASHED))
    return network
