"""fp16: every preset exports, because trunks are rounded by what that does to photos."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hficma.artifacts.manifest import read_manifest
from hficma.export import export_model
from hficma.export import half_precision as narrow
from hficma.export.calibration_items import smooth_items
from hficma.export.half_precision import narrow_image_encoder
from hficma.model import ImageConfig, Model, ModelConfig, build_model
from hficma.model.encoders.image.efficientnet_lite import efficientnet_lite
from hficma.model.encoders.image.torchvision_models import import_torchvision
from hficma.training.config.option_files import load_options, presets
from tests.model.factories import make_model, make_vectors


def small(preset: str) -> ModelConfig:
    """A preset's model, as narrow as a test needs it; the trunk has tests of its own."""
    options = load_options(preset).model
    return replace(
        options, width=16, word_dim=8, sentence_dim=7, ingredient_width=5, global_dim=8,
        image=ImageConfig(encoder="tiny"),
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Layers this small cost several threads more in waiting for each other than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


DISTINCT = {small(preset).to_json().__repr__(): preset for preset in presets()}


@pytest.mark.parametrize("preset", sorted(DISTINCT.values()))
def test_every_preset_exports_in_fp16(
    preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--precision fp16` would end in a ParityError, after minutes."""
    monkeypatch.setattr(narrow, "PHOTOS", 3)  # rounding has tests of its own, and most of the cost
    monkeypatch.setattr(narrow, "JUDGES", 1)
    config = small(preset)
    model = build_model(config, make_vectors(config.word_dim)).eval()
    out = export_model(model, tmp_path / "b", precisions=("fp16",), runtimes=("onnxruntime",))
    graphs = read_manifest(out, kind="bundle").facts["graphs"]
    assert all("fp16" in graph["precisions"] for graph in graphs.values())
    sizes = {p: (out / f"onnx/image.{p}.onnx").stat().st_size for p in ("fp32", "fp16")}
    assert sizes["fp16"] < 0.55 * sizes["fp32"], "a narrow graph is there to be small"


def photos_of(model: Model, count: int, seed: int) -> np.ndarray:
    return smooth_items(model, count, seed).photos


def with_encoder(encoder: nn.Module) -> Model:
    """A model around a trunk whose normalisations have seen photos: random ones fade to 0."""
    model = make_model()
    model.trunk = encoder.train()
    with torch.no_grad():
        for layer in encoder.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # statistics of exactly these photos
        model.image_features(torch.from_numpy(photos_of(model, 4, seed=3)))
    return model.eval()


@torch.no_grad()
def changes(model: Model, encoder: nn.Module) -> float:
    """How far the mean region moves, as a share of how it differs between photos."""
    photos = model.normalize(torch.from_numpy(photos_of(model, 6, seed=5)))

    def means(encoder: nn.Module, pixels: Tensor) -> Tensor:
        mean: Tensor = encoder(pixels).float().mean(dim=(2, 3))
        return mean

    wide = means(model.trunk, photos)
    return float((means(encoder, photos) - wide).norm() / (wide - wide.mean(dim=0)).norm())


def rounded_alone(model: Model) -> nn.Module:
    """The trunk with each weight rounded by itself."""
    return nn.Sequential(ToHalf(), copy.deepcopy(model.trunk).half())


class ToHalf(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.half()


def edges() -> nn.Module:
    """Depthwise filters that sum to almost nothing behind a smooth stem, as ImageNet's have."""
    smooth = nn.Conv2d(3, 24, 7, stride=4, padding=3)
    nn.init.uniform_(smooth.weight, 0.0, 0.02)
    edge = nn.Conv2d(24, 24, 3, stride=2, padding=1, groups=24)
    with torch.no_grad():
        edge.weight -= edge.weight.mean(dim=(2, 3), keepdim=True) * 0.999
        edge.weight *= 30
    return nn.Sequential(smooth, nn.ReLU(), edge, nn.ReLU(), nn.Conv2d(24, 192, 1), nn.AvgPool2d(4))


def test_filters_that_nearly_cancel_are_rounded_together() -> None:
    """What the first depthwise layer of MobileNetV2 lost moved every S by a tenth of its spread."""
    torch.manual_seed(0)
    model = make_model()
    model.trunk = edges().eval()
    alone = changes(model, rounded_alone(model))
    together = changes(
        model, narrow_image_encoder(model, smooth_items(model, 12, 4), torch.float16)
    )
    assert together < alone / 4


@pytest.fixture(scope="module")
def real_model() -> Model:
    """A model over MobileNetV2's own layers, a quarter as wide: an eighth of the work."""
    torch.manual_seed(0)
    encoder = import_torchvision().models.mobilenet_v2(width_mult=0.25).features
    encoder[-1] = nn.Conv2d(encoder[-2].out_channels, 192, 1)
    return with_encoder(encoder)


def test_a_real_trunk_keeps_what_tells_photos_apart(
    real_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kind of layer that is rounded wrongly: strides, groups, layers without a bias."""
    monkeypatch.setattr(narrow, "PHOTOS", 4)
    monkeypatch.setattr(narrow, "STEM_SHARES", (2,))
    encoder = narrow_image_encoder(real_model, smooth_items(real_model, 5, 4), torch.float16)
    assert {p.dtype for p in encoder.rest.parameters()} == {torch.float16}
    # Random layers, one behind the other, enlarge any difference; trained ones do not.
    assert changes(real_model, encoder) < 0.6 * changes(real_model, rounded_alone(real_model))


def test_a_stem_grows_only_while_scores_need_it(
    real_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stem too short for scores that lie close together, or wide layers that serve nothing."""
    items = smooth_items(real_model, 2, 4)
    monkeypatch.setattr(narrow, "PHOTOS", 1)
    tried: list[int] = []
    split = narrow._split

    def note_split(encoder: nn.Module, pixels: Tensor, size: int) -> tuple[nn.Module, nn.Module]:
        tried.append(size)
        return split(encoder, pixels, size)

    monkeypatch.setattr(narrow, "_split", note_split)
    monkeypatch.setattr(narrow, "_round_layers", lambda *_: None)
    monkeypatch.setattr(narrow, "ENOUGH", 1.0)
    shortest = narrow_image_encoder(real_model, items, torch.float16)
    assert tried == [112]
    monkeypatch.setattr(narrow, "ENOUGH", 0.0)
    grown = narrow_image_encoder(real_model, items, torch.float16)
    assert tried == [112, 112, 56, 28, 14]
    assert len(shortest.stem) < len(grown.stem)
    monkeypatch.setattr(narrow, "MOST_STEM_SHARE", 0.0)
    assert len(narrow_image_encoder(real_model, items, torch.float16).stem) == len(shortest.stem)


@pytest.mark.parametrize(("groups", "inputs"), [(1, 30), (5, 9), (2, 300)])
def test_rounding_together_loses_less(
    groups: int, inputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Corrections in the wrong direction, or in blocks that do not see each other's."""
    generator = torch.Generator().manual_seed(inputs)
    shared = torch.randn(groups, 1, 2000, generator=generator).double()
    samples = shared + 0.05 * torch.randn(groups, inputs, 2000, generator=generator).double()
    moments = samples @ samples.mT / 2000
    filters = torch.randn(groups, 4, inputs, generator=generator).double()
    original = filters.clone()
    rounded = narrow._round_together(filters, moments, torch.float16)
    assert torch.equal(filters, original), "the caller's filters are its own"

    def loss(narrowed: Tensor) -> float:
        return float(((narrowed.double() - filters) @ samples).square().mean())

    assert loss(rounded) < loss(filters.half()) / 3
    monkeypatch.setattr(narrow, "BLOCK", 7)
    blocks = narrow._round_together(filters, moments, torch.float16)
    assert loss(blocks) == pytest.approx(loss(rounded), rel=0.5)


def test_a_dead_filter_is_no_obstacle() -> None:
    """Inputs that are 0 in every photo made the factorisation fail, and the export with it."""
    zeros = torch.zeros(1, 5, 5).double()
    filters = torch.tensor([[[1.0001, 2, 3, 4, 5]]]).double()
    assert torch.equal(narrow._round_together(filters, zeros, torch.float16), filters.half())


def test_a_network_that_gives_its_stages_is_rounded_behind_a_stem() -> None:
    """The export of such a network ended in an error, or lost a stage that its stem had taken."""
    encoder = efficientnet_lite("efficientnet-lite0", None, stages=True).eval()
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        exact = encoder(pixels)
        stem, rest = narrow._split(encoder, pixels, 4)
        rest = narrow._folded(rest)
        assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in rest.modules())
        features = rest(stem(pixels))
    assert len(list(stem.children())) > 4
    torch.testing.assert_close(features.pooled, exact.pooled, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(features.regions, exact.regions, atol=1e-4, rtol=1e-3)
