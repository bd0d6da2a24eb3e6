"""The caches of photos: one array a dataset and trunk, and photos that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hficma.data.dataset import open_dataset
from hficma.images import preprocess
from hficma.model import Model, ModelConfig, build_model
from hficma.training.pairs import windows
from hficma.training.photos import cached_pixels, cached_regions, halved, random_crops, random_view
from hficma.vectors import WordVectors


def model(seed: int = 0) -> Model:
    config = ModelConfig(
        width=8, heads=2, backbone="tiny", word_dim=4, sentence="mean", global_dim=8
    )
    vectors = WordVectors.from_rows(("salt",), (1,), np.ones((1, 4)))
    return build_model(config, vectors, seed=seed).eval()


def test_cached_regions_are_those_of_the_trunk_and_are_computed_once(tmp_path: Path) -> None:
    dataset, rows, seen = open_dataset("sample:100"), np.array([3, 7]), []
    network = model()
    found = cached_regions(network, dataset, rows, tmp_path, seen.append, views=2, scale=0.5)
    again = cached_regions(network, dataset, rows, tmp_path, seen.append, views=2, scale=0.5)
    assert found.rows.shape == (2, 3, 49, 192)
    assert sum(seen) == 2, "the trunk ran twice over the same photos"
    assert np.array_equal(found.rows, again.rows)
    crop = torch.from_numpy(preprocess(dataset.photo(7)).copy())[None]  # it is read-only
    with torch.no_grad():
        expected = network.regions(crop)[0]
    torch.testing.assert_close(
        torch.from_numpy(np.array(found.rows[1, 0])).float(), expected, rtol=1e-2, atol=1e-2
    )


def test_another_trunk_or_other_views_are_another_cache(tmp_path: Path) -> None:
    """A stale cache trains on features of weights that are long gone."""
    dataset, rows, seen = open_dataset("sample:100"), np.array([1]), []
    for network, views in ((model(0), 0), (model(1), 0), (model(0), 1)):
        cached_regions(network, dataset, rows, tmp_path, seen.append, views=views, scale=0.5)
    assert sum(seen) == 3


def test_a_photo_that_cannot_be_read_is_left_out_and_told_of(tmp_path: Path) -> None:
    open_dataset("sample:100").photo(0).save(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    lines = [f'{{"ingredients": ["salt"], "image": "{name}"}}' for name in ("bad.jpg", "good.png")]
    (tmp_path / "recipes.jsonl").write_text("\n".join(lines))
    dataset = open_dataset(str(tmp_path / "recipes.jsonl"))
    found = cached_pixels(dataset, np.array([0, 1]), tmp_path / "cache", lambda count: None)
    assert found.usable.tolist() == [False, True]
    assert len(found.complaints) == 1
    assert "bad.jpg" in found.complaints[0]


def test_random_crops_and_views_have_the_networks_size_and_repeat_with_the_seed() -> None:
    photo = open_dataset("sample:100").photo(0)
    first, again = (random_view(photo, 0.3, np.random.default_rng(5)) for _ in range(2))
    assert first.shape == (224, 224, 3)
    assert np.array_equal(first, again)
    squares = np.arange(2 * 256 * 256 * 3, dtype=np.uint32).astype(np.uint8)
    crops = random_crops(squares.reshape(2, 256, 256, 3), 224, np.random.default_rng(0))
    assert crops.shape == (2, 224, 224, 3)


def test_half_sized_photos_are_the_mean_of_their_pixels() -> None:
    photos = np.random.default_rng(0).integers(256, size=(2, 8, 8, 3), dtype=np.uint8)
    means = photos.reshape(2, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    small = halved(photos)
    assert small.dtype == np.uint8
    assert np.abs(small - means).max() <= 1
    assert np.abs(small - means).mean() < 0.5


def test_windows_are_rectangles_of_the_grid() -> None:
    """Rows and columns mixed up would show scattered regions, which no crop does."""
    places = torch.arange(49).view(1, 49, 1).expand(5, 49, 1)
    for seed in range(20):
        shown = windows(places, 0.2, np.random.default_rng(seed))[..., 0]
        for photo in shown:
            rows, columns = set((photo // 7).tolist()), set((photo % 7).tolist())
            assert len(rows) * len(columns) == len(photo) >= 0.2 * 49
            assert max(rows) - min(rows) + 1 == len(rows)
            assert max(columns) - min(columns) + 1 == len(columns)
