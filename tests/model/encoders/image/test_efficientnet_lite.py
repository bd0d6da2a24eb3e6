"""EfficientNet-Lite: the network that timm has, under the names of the files that people have."""

from __future__ import annotations

import copy
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hficma.errors import InputError
from hficma.export.half_precision import _folded
from hficma.model import ImageConfig
from hficma.model.encoders.image.efficientnet_lite import SIZES, efficientnet_lite
from hficma.model.encoders.image.image_encoder import make_image_encoder
from hficma.model.encoders.image.resolution import resolve_image_encoder
from hficma.model.encoders.image.torchvision_models import import_torchvision


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_the_networks_own(name: str) -> None:
    """Lite2 shown 224 pixels, or padded as PyTorch pads, sees another grid than it learnt."""
    config, _ = resolve_image_encoder(ImageConfig(encoder=name), None)
    encoder = make_image_encoder(config)
    assert encoder.grid == -(-SIZES[name] // 32)
    assert (encoder.channels, encoder.pools_regions) == (1280, True)
    assert config.input is not None
    assert config.input.mean == pytest.approx((127 / 255,) * 3)
    assert resolve_image_encoder(config, None).config == config


@pytest.mark.skipif(find_spec("timm") is None, reason="compares with timm's network")
def test_features_are_those_of_timm() -> None:
    """The same layers in the same order, named otherwise."""
    import_torchvision()  # which timm imports
    import timm

    theirs = timm.create_model("tf_efficientnet_lite2", pretrained=False, num_classes=0).eval()
    ours = efficientnet_lite("efficientnet-lite2", None).eval()
    generator = torch.Generator().manual_seed(0)
    for tensor in theirs.state_dict().values():
        if tensor.dtype == torch.float32:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) / (tensor[0].numel() or 1))
    names = zip(ours.state_dict(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict(dict(names))
    with torch.no_grad():
        for size in (65, 96):  # paddings of both kinds
            pixels = torch.randn(1, 3, size, size, generator=generator)
            torch.testing.assert_close(ours(pixels), theirs.forward_features(pixels))


def test_it_is_rounded_to_half_precision_like_others() -> None:
    """Export folds normalisations and cuts a stem off; a network it cannot follow rounds badly."""
    torch.manual_seed(0)
    network = efficientnet_lite("efficientnet-lite0", None).eval()
    assert isinstance(network, nn.Sequential)
    folded = _folded(copy.deepcopy(network))
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    pixels = torch.randn(1, 3, 65, 65)
    torch.testing.assert_close(folded(pixels), network(pixels), rtol=1e-3, atol=1e-3)


def test_a_file_of_weights_is_read_without_its_classifier(tmp_path: Path) -> None:
    """The files hold ImageNet's classes too; those of another network are refused."""
    network = efficientnet_lite("efficientnet-lite0", None)
    files_names = {
        re.sub(r"(^|\.)(?=\D)", r"\1_", name.replace("blocks_", "blocks.")): tensor
        for name, tensor in network.state_dict().items()
    }
    files_names = {
        re.sub(r"_(weight|bias|running_mean|running_var|num_batches_tracked)$", r"\1", name): tensor
        for name, tensor in files_names.items()
    }
    assert "_blocks.3._bn0.weight" in files_names
    state = files_names | {"_fc.weight": torch.ones(3, 1280), "_fc.bias": torch.ones(3)}
    torch.save(state, tmp_path / "lite0.pth")
    resolved = resolve_image_encoder(
        ImageConfig(encoder="efficientnet-lite0"), tmp_path / "lite0.pth"
    )
    read = make_image_encoder(*resolved).trunk.state_dict()
    assert all(torch.equal(read[name], value) for name, value in network.state_dict().items())
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="are no weights of efficientnet-lite0"):
        make_image_encoder(resolved.config, tmp_path / "other.safetensors")


def test_stages_are_the_means_of_the_maps_at_their_ends() -> None:
    """A layer beside the right one would give other widths, and features nobody measured."""
    torch.manual_seed(0)
    config = ImageConfig(encoder="efficientnet-lite2", pooled="stages")
    resolved, _ = resolve_image_encoder(config, None)
    encoder = make_image_encoder(resolved)
    assert encoder.pooled_parts == (1280, 48 + 88 + 120 + 208 + 352)
    trunk = encoder.trunk.eval()
    maps: dict[str, torch.Tensor] = {}
    for name in ("blocks_6", "blocks_20", "relu1"):
        layer = trunk.get_submodule(name)
        layer.register_forward_hook(lambda _, __, out, name=name: maps.update({name: out}))
    with torch.no_grad():
        pooled, regions = trunk(torch.randn(1, 3, 96, 96))
        plain = efficientnet_lite("efficientnet-lite2", None).eval()
        plain.load_state_dict(trunk.state_dict())
    means = {name: one.mean(dim=(2, 3)) for name, one in maps.items()}
    torch.testing.assert_close(pooled[:, :1280], means["relu1"])
    torch.testing.assert_close(pooled[:, 1280:1328], means["blocks_6"])
    torch.testing.assert_close(pooled[:, -352:], means["blocks_20"])
    torch.testing.assert_close(regions.mT.reshape(1, 1280, 3, 3), maps["relu1"])
    with pytest.raises(InputError, match=r"model\.image\.pooled=stages: tiny"):
        make_image_encoder(ImageConfig(encoder="tiny", pooled="stages"))
