"""Features of photos: what any image encoder gives, on grids and inputs of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hficma.data.dataset import open_dataset
from hficma.errors import InputError
from hficma.images import ImageInput, preprocess
from hficma.model import ImageConfig
from hficma.model.encoders.image.features import ImageFeatures, pool_regions
from hficma.model.encoders.image.image_encoder import make_image_encoder
from hficma.training.data.photo_cache import cached_features
from tests.model.factories import make_model

SMALL = ImageInput(size=96, short_side=100, interpolation="bicubic", mean=(0.5,) * 3)


@pytest.mark.parametrize(("side", "grid"), [(7, 3), (9, 7), (16, 7), (4, 2), (5, 5), (3, 7)])
def test_a_finer_grid_is_pooled_as_torch_pools(side: int, grid: int) -> None:
    """A cell that lacked a row would show a region where it is not."""
    regions = torch.randn(2, side**2, 5)
    pooled = pool_regions(regions, grid)
    if side <= grid:
        assert pooled is regions
        return
    maps = regions.mT.unflatten(2, (side, side))
    expected = F.adaptive_avg_pool2d(maps, grid).flatten(2).mT
    torch.testing.assert_close(pooled, expected)


def test_a_models_regions_are_its_own() -> None:
    """An encoder of another input gives another number of regions, and everything follows."""
    model = make_model(image=ImageConfig(encoder="tiny", input=SMALL))
    assert (model.grid, model.region_count) == (3, 9)
    photos = [open_dataset("sample:100").photo(number) for number in range(2)]
    assert model.encode_images(photos).lengths.tolist() == [9, 9]
    coarse = make_model(image=ImageConfig(encoder="tiny", input=SMALL, grid=2))
    image = coarse.encode_images(photos)
    assert image.tokens is not None
    assert image.tokens.shape == (2, 4, coarse.config.width)
    with pytest.raises(InputError, match=r"model\.image\.grid=7: tiny has 3 x 3 regions"):
        make_image_encoder(ImageConfig(encoder="tiny", input=SMALL, grid=7))


def test_pixels_reach_the_encoder_at_its_own_scale() -> None:
    """Pixels of another mean than in training look like another photo."""
    model = make_model(image=ImageConfig(encoder="tiny", input=SMALL))
    white = torch.full((1, 96, 96, 3), 255, dtype=torch.uint8)
    expected = (1 - torch.tensor(SMALL.mean)) / torch.tensor(SMALL.deviation)
    torch.testing.assert_close(model.normalize(white)[0, :, 5, 7], expected)


class Pooling(nn.Module):
    """An encoder with a vector of the whole that is no mean of its regions."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 192))

    def forward(self, pixels: torch.Tensor) -> ImageFeatures:
        regions = F.adaptive_avg_pool2d(pixels, 3).flatten(2).mT @ self.weight
        return ImageFeatures(regions[:, 0] * 2, regions)


@pytest.mark.parametrize("kind", ["hf-icma", "adamine"])
@pytest.mark.parametrize("pools_regions", [True, False])
def test_a_cache_holds_what_the_model_reads_and_no_more(
    kind: str, pools_regions: bool, tmp_path: Path
) -> None:
    """A model of whole vectors must not write gigabytes of regions, nor lose its own pooling."""
    model = make_model(kind, image=ImageConfig(encoder="tiny", input=SMALL))
    if not pools_regions:
        model.trunk, model.pools_regions = Pooling().eval(), False
    dataset, rows = open_dataset("sample:100"), np.arange(3)
    arrays = cached_features(
        model, dataset, rows, tmp_path, lambda count: None, regions=model.has_local, views=1
    )
    expected = {"regions"} if model.has_local else {"pooled"}
    assert set(arrays.arrays) == (expected if pools_regions else expected | {"pooled"})
    assert arrays.views == 2
    pixels = np.stack([preprocess(dataset.photo(row), SMALL) for row in rows.tolist()])
    with torch.no_grad():
        whole = model.image_tokens(model.image_features(torch.from_numpy(pixels))).global_
        cached = model.image_tokens(arrays.features(rows, 0)).global_
    torch.testing.assert_close(cached, whole, rtol=1e-2, atol=1e-2)
