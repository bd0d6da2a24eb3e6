"""Encoders of Hugging Face's: vectors and pixels are the library's own, mistakes are one line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hficma.errors import InputError
from hficma.images import ImageInput, preprocess
from hficma.model import ImageConfig
from hficma.model.encoders.image.features import ImageFeatures, image_features
from hficma.model.encoders.image.folder_input import folder_input
from hficma.model.encoders.image.image_encoder import make_image_encoder
from hficma.model.encoders.image.normalize import Normalize
from hficma.model.encoders.image.resolution import resolve_image_encoder
from tests.model.encoders.image.folders import MODELS, SQUASHED, save_folder, transformers

pytestmark = pytest.mark.skipif(
    find_spec("transformers") is None, reason="the truth is transformers' own"
)


@pytest.mark.parametrize("kind", MODELS)
def test_vectors_are_those_of_the_library(kind: str, tmp_path: Path) -> None:
    """A class token among the regions, or a norm left out, is still a vector of the right width."""
    folder = tmp_path / "model"
    network = save_folder(kind, folder)
    resolved = resolve_image_encoder(ImageConfig(encoder=str(folder)), None)
    encoder = make_image_encoder(*resolved)
    # A run knows the architecture without the folder.
    shutil.rmtree(folder)
    again = make_image_encoder(resolved.config)
    again.trunk.load_state_dict(encoder.trunk.state_dict())
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = expected_features(network, kind, pixels)
        for one in (encoder, again):
            features = image_features(one.trunk.eval(), pixels)
            for actual, wanted in zip(features, expected, strict=True):
                torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-5)
    assert features.regions is not None
    assert features.regions.shape == (2, encoder.grid**2, encoder.channels)
    assert features.pooled.shape == (2, encoder.pooled_width)
    assert resolved.config.encoder == "model"


def expected_features(network: Any, kind: str, pixels: torch.Tensor) -> ImageFeatures:
    """What the library gives, taken apart as its documentation says."""
    if kind == "siglip2":
        # Its own processor cuts into patches: a photo's height and width, then a patch's.
        parted = pixels.reshape(2, 3, 4, 8, 4, 8).permute(0, 2, 4, 3, 5, 1)
        grids, mask = torch.tensor([[4, 4], [4, 4]]), torch.ones(2, 16, dtype=torch.int64)
        output = network(parted.reshape(2, 16, -1), mask, grids)
        return ImageFeatures(output.pooler_output, output.last_hidden_state)
    output = network(pixels)
    last, pooled = output.last_hidden_state, getattr(output, "pooler_output", None)
    if kind in ("vit", "dinov2", "dinov2_with_registers", "dinov3_vit"):
        registers = 4 if kind in ("dinov2_with_registers", "dinov3_vit") else 0
        return ImageFeatures(last[:, 0], last[:, 1 + registers :])
    if kind in ("clip", "dinov3_convnext"):
        return ImageFeatures(pooled, last[:, 1:])
    return ImageFeatures(pooled, last if last.ndim == 3 else last.flatten(2).mT)


PROCESSORS = {
    "vit": ("ViTImageProcessor", {"size": {"height": 40, "width": 40}}),
    "clip": ("CLIPImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": 40}),
    "siglip": ("SiglipImageProcessor", {"size": {"height": 48, "width": 48}, "resample": 3}),
    "dinov2": ("BitImageProcessor", {"size": {"shortest_edge": 48}, "crop_size": 40}),
    "convnext": ("ConvNextImageProcessor", {"size": {"shortest_edge": 40}}),
    "convnext, large": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_those_of_the_librarys_processor(name: str, tmp_path: Path) -> None:
    """Another scaling than in training costs recall and shows nowhere."""
    kind, options = PROCESSORS[name]
    library = transformers()
    processor_class = getattr(library, f"{kind}Pil", None) or getattr(library, kind)
    processor = processor_class(**options)
    processor.save_pretrained(tmp_path)
    image_input = folder_input(tmp_path)
    generator = np.random.default_rng(0)
    for shape in ((300, 401, 3), (97, 61, 3), (40, 40, 3)):
        photo = Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8))
        expected = processor(photo, return_tensors="pt")["pixel_values"]
        pixels = torch.from_numpy(preprocess(photo, image_input).copy())[None]
        actual = Normalize(image_input)(pixels)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("patches", [16, 36])
def test_naflex_sees_a_square_photo_as_its_own_processor_does(patches: int, tmp_path: Path) -> None:
    """Patches of another order, or positions not stretched to the grid, tell photos apart too."""
    folder = tmp_path / "model"
    network = save_folder("siglip2", folder)
    library = transformers()
    kind = "Siglip2ImageProcessor"
    processor_class = getattr(library, f"{kind}Pil", None) or getattr(library, kind)
    processor = processor_class(patch_size=8, max_num_patches=patches)
    processor.save_pretrained(folder)
    config, weights = resolve_image_encoder(ImageConfig(encoder=str(folder)), None)
    encoder = make_image_encoder(config, weights)
    image_input = config.input
    assert image_input is not None
    assert encoder.grid**2 == patches
    noise = np.random.default_rng(0).integers(0, 256, (70, 70, 3), dtype=np.uint8)
    photo = Image.fromarray(noise)
    pixels = torch.from_numpy(preprocess(photo, image_input).copy())[None]
    with torch.no_grad():
        expected = network(**processor(photo, return_tensors="pt"))
        actual = image_features(encoder.trunk.eval(), Normalize(image_input)(pixels))
    torch.testing.assert_close(actual.pooled, expected.pooler_output, rtol=0, atol=1e-5)
    torch.testing.assert_close(actual.regions, expected.last_hidden_state, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match=r"input\.size=33: is no multiple of 8"):
        make_image_encoder(replace(config, input=replace(image_input, size=33, short_side=33)))


def test_older_and_other_processors_are_understood(tmp_path: Path) -> None:
    """Published folders are of many years; a bare size means one thing to CLIP, another to ViT."""
    stated = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}

    def read(**options: object) -> ImageInput:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated | options))
        return folder_input(tmp_path)

    clip = read(feature_extractor_type="CLIPFeatureExtractor", size=224, crop_size=224, resample=3)
    assert (clip.size, clip.short_side, clip.resize) == (224, 224, "shorter")
    vit = read(feature_extractor_type="ViTFeatureExtractor", size=384)
    assert (vit.size, vit.short_side, vit.resize) == (384, 384, "squash")
    raw = read(image_processor_type="ViTImageProcessor", size=224, rescale_factor=1 / 127.5)
    assert raw.mean == pytest.approx((0.25,) * 3)
    assert raw.deviation == pytest.approx((0.25,) * 3)
    with pytest.raises(InputError, match=r"preprocessor_config\.json: interpolation 0 is none of"):
        read(resample=0)
    with pytest.raises(InputError, match="no squares"):
        read(size={"height": 10, "width": 20})
    with pytest.raises(InputError, match=r"preprocessor_config\.json: has no height"):
        read(size={"longest_edge": 224})
    with pytest.raises(InputError, match="rescale_factor 0 is not above 0"):
        read(rescale_factor=0)


def test_mistakes_are_said_in_one_line(tmp_path: Path) -> None:
    """Each would otherwise end in a traceback from inside transformers, or in random weights."""

    def broken(name: str) -> Path:
        shutil.copytree(tmp_path / "good", tmp_path / name)
        return tmp_path / name

    save_folder("vit", tmp_path / "good")
    (broken("no config") / "config.json").unlink()
    (broken("no weights") / "model.safetensors").unlink()
    (broken("no input") / "preprocessor_config.json").unlink()
    (broken("no json") / "config.json").write_text("{")
    (broken("other") / "config.json").write_text('{"model_type": "bert"}')
    file = broken("truncated") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    config = json.loads((broken("deeper") / "config.json").read_text())
    (tmp_path / "deeper" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    (tmp_path / "wider" / "x").parent.mkdir()
    shutil.copytree(tmp_path / "good", tmp_path / "wider", dirs_exist_ok=True)
    (tmp_path / "wider" / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    messages = {
        "absent": "no such folder",
        "no config": r"config\.json",
        "no weights": r"has no model\.safetensors",
        "no input": r"has no preprocessor_config\.json",
        "no json": "is not valid JSON",
        "other": "model_type bert is no image encoder that is known here",
        "truncated": r"model\.safetensors cannot be read",
        "deeper": "lacks .* weights",
        "wider": "of another network",
    }
    for name, message in messages.items():
        with pytest.raises(InputError, match=message) as caught:
            open_folder(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600, name


def open_folder(folder: Path) -> None:
    """Build the encoder of a folder."""
    make_image_encoder(*resolve_image_encoder(ImageConfig(encoder=str(folder)), None))


def test_a_folders_own_code_and_quantisers_are_left_out(tmp_path: Path) -> None:
    """`auto_map` names Python files of the folder, `quantization_config` packages to import."""
    save_folder("vit", tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    record = json.loads(file.read_text())
    record["auto_map"] = {"AutoModel": "evil.Model"}
    record["quantization_config"] = {"quant_method": "bitsandbytes"}
    file.write_text(json.dumps(record))
    (tmp_path / "model" / "evil.py").write_text("raise SystemExit('run')")
    config, weights = resolve_image_encoder(ImageConfig(encoder=str(tmp_path / "model")), None)
    assert "evil" not in config.architecture
    assert "quant" not in config.architecture
    assert make_image_encoder(config, weights).grid == 4
    assert config.input == folder_input(tmp_path / "model")
    assert SQUASHED["size"] == {"height": 32, "width": 32}
