"""Networks of timm: vectors and pixels are the library's own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from hficma.errors import InputError
from hficma.images import preprocess
from hficma.model import ImageConfig
from hficma.model.encoders.image.features import image_features
from hficma.model.encoders.image.image_encoder import make_image_encoder
from hficma.model.encoders.image.normalize import Normalize
from hficma.model.encoders.image.resolution import resolve_image_encoder
from hficma.model.encoders.image.torchvision_models import import_torchvision

pytestmark = pytest.mark.skipif(find_spec("timm") is None, reason="the truth is timm's own")


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_vectors_and_pixels_are_those_of_the_library(name: str, tmp_path: Path) -> None:
    """A class token among the regions, or another crop, is still of the right shape."""
    import_torchvision()
    import timm

    theirs = timm.create_model(name, pretrained=False).eval()
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    resolved = resolve_image_encoder(ImageConfig(encoder=name), tmp_path / "weights.safetensors")
    assert resolved.config.family == "timm"
    encoder = make_image_encoder(*resolved)
    generator = np.random.default_rng(0)
    # Where an odd number of pixels is cut away, torchvision's centre lies one beside ours.
    photo = Image.fromarray(generator.integers(0, 256, (300, 400, 3), dtype=np.uint8))
    transform = timm.data.create_transform(**timm.data.resolve_data_config(theirs.pretrained_cfg))
    expected_pixels = transform(photo)[None]
    assert resolved.config.input is not None
    pixels = Normalize(resolved.config.input)(
        torch.from_numpy(preprocess(photo, resolved.config.input).copy())[None]
    )
    torch.testing.assert_close(pixels, expected_pixels, rtol=0, atol=1e-5)
    with torch.no_grad():
        features = theirs.forward_features(pixels)
        pooled = theirs.forward_head(features, pre_logits=True)
        regions = features[:, 1:] if features.ndim == 3 else features.flatten(2).mT
        actual = image_features(encoder.trunk.eval(), pixels)
    torch.testing.assert_close(actual.pooled, pooled, rtol=0, atol=1e-5)
    torch.testing.assert_close(actual.regions, regions, rtol=0, atol=1e-5)
    assert encoder.grid**2 == regions.shape[1]
    assert encoder.pooled_width == pooled.shape[1]


def test_torchvisions_names_stay_torchvisions() -> None:
    """Both libraries have a resnet50; weights of old runs are named as torchvision's."""
    assert resolve_image_encoder(ImageConfig(encoder="resnet50"), None).config == ImageConfig()
    with pytest.raises(InputError, match="torchvision has no such classifier"):
        make_image_encoder(*resolve_image_encoder(ImageConfig(encoder="no_such_net"), None))
