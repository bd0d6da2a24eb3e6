"""The caches of photos: one array a dataset and image encoder, and photos that cannot be read."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from hficma.data.dataset import Dataset, open_dataset
from hficma.data.sample import SampleDataset
from hficma.data.sources import open_source
from hficma.data.store.importing import import_dataset
from hficma.errors import InputError
from hficma.images import ImageInput, preprocess
from hficma.images.crops import crops
from hficma.model import ImageConfig, Model, ModelConfig, build_model
from hficma.text.word_vectors import WordVectors
from hficma.training.data.loader.batches import pair_draws
from hficma.training.data.photo_cache import cached_features, cached_pixels
from hficma.training.data.photo_views import (
    halved,
    random_crops,
    random_view,
    windows,
    write_random_crop,
)

INPUT = ImageInput()
"""What torchvision's classifiers read."""


def model(seed: int = 0) -> Model:
    config = ModelConfig(
        width=8,
        heads=2,
        image=ImageConfig(encoder="tiny"),
        word_dim=4,
        sentence="mean",
        global_dim=8,
    )
    vectors = WordVectors.from_rows(("salt",), (1,), np.ones((1, 4)))
    return build_model(config, vectors, seed=seed).eval()


def test_cached_regions_are_those_of_the_image_encoder_and_are_computed_once(
    tmp_path: Path,
) -> None:
    dataset, rows, seen = open_dataset("sample:100"), np.array([3, 7]), []
    network = model()
    array = cached_features(network, dataset, rows, tmp_path, seen.append, views=2, scale=0.5)
    again = cached_features(network, dataset, rows, tmp_path, seen.append, views=2, scale=0.5)
    assert array.arrays["regions"].shape == (2, 3, 49, 192)
    assert sum(seen) == 2, "the trunk ran twice over the same photos"
    assert np.array_equal(array.arrays["regions"], again.arrays["regions"])
    crop = torch.from_numpy(preprocess(dataset.photo(7), INPUT).copy())[None]  # it is read-only
    with torch.no_grad():
        expected = network.image_features(crop)
    torch.testing.assert_close(array.features(np.array([1]), 0), expected, rtol=1e-2, atol=1e-2)


def test_the_crops_that_inference_averages_come_before_random_views(tmp_path: Path) -> None:
    """The centre is view 0, which validation reads; a step draws any."""
    dataset, network = open_dataset("sample:100"), model()
    arrays = cached_features(
        network, dataset, np.array([3]), tmp_path, lambda count: None, crops=5, views=1
    )
    assert arrays.views == 6
    pixels = torch.from_numpy(crops(dataset.photo(3), INPUT, 5))
    with torch.no_grad():
        expected = network.image_features(pixels)
    shown = arrays.features(np.zeros(5, dtype=np.int64), np.arange(5))
    torch.testing.assert_close(shown, expected, rtol=1e-2, atol=1e-2)


def test_another_image_encoder_or_other_views_are_another_cache(tmp_path: Path) -> None:
    """A stale cache trains on features of weights that are long gone."""
    dataset, rows, seen = open_dataset("sample:100"), np.array([1]), []
    for network, views in ((model(0), 0), (model(1), 0), (model(0), 1)):
        cached_features(network, dataset, rows, tmp_path, seen.append, views=views, scale=0.5)
    assert sum(seen) == 3


def test_a_photo_that_cannot_be_read_is_left_out_and_told_of(tmp_path: Path) -> None:
    open_dataset("sample:100").photo(0).save(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    lines = [f'{{"ingredients": ["salt"], "image": "{name}"}}' for name in ("bad.jpg", "good.png")]
    (tmp_path / "recipes.jsonl").write_text("\n".join(lines))
    dataset = open_dataset(str(tmp_path / "recipes.jsonl"))
    array = cached_pixels(dataset, np.array([0, 1]), INPUT, tmp_path / "cache", lambda count: None)
    assert array.usable.tolist() == [False, True]
    assert len(array.complaints) == 1
    assert "bad.jpg" in array.complaints[0]


def photos_of(folder: Path, colours: Sequence[str]) -> Path:
    """A JSONL of a photo each, plain in its colour."""
    (folder / "p").mkdir(parents=True, exist_ok=True)
    lines = []
    for number, colour in enumerate(colours):
        Image.new("RGB", (256, 256), colour).save(folder / "p" / f"{number}.jpg")
        lines.append(f'{{"id": "{number}", "ingredients": ["salt"], "image": "p/{number}.jpg"}}')
    (folder / "r.jsonl").write_text("\n".join(lines))
    return folder / "r.jsonl"


def first_pixel(dataset: Dataset, cache: Path) -> list[int]:
    rows = np.arange(len(dataset))
    array = cached_pixels(dataset, rows, INPUT, cache, lambda count: None).squares[0, 100, 100]
    return [int(value) for value in array]


@pytest.mark.parametrize("form", ["jsonl", "directory"])
def test_a_dataset_made_again_under_its_name_shows_its_new_photos(
    form: str, tmp_path: Path
) -> None:
    """Known by its name and its number of photos, it was trained on the old ones."""

    def opened(colour: str) -> Dataset:
        file = photos_of(tmp_path, [colour] * 3)
        if form == "jsonl":
            return open_dataset(str(file))
        shutil.rmtree(tmp_path / "ds", ignore_errors=True)
        import_dataset(open_source(str(file)), tmp_path / "ds")
        return open_dataset(str(tmp_path / "ds"))

    red = first_pixel(opened("red"), tmp_path / "cache")
    blue = first_pixel(opened("blue"), tmp_path / "cache")
    assert red[0] > 200 > 50 > red[2]
    assert blue[2] > 200 > 50 > blue[0]


def test_one_photo_replaced_is_seen_and_a_dataset_moved_costs_nothing(tmp_path: Path) -> None:
    file = photos_of(tmp_path / "a", ["red", "green"])
    cache, rows, seen = tmp_path / "cache", np.arange(2), list[int]()
    cached_pixels(open_dataset(str(file)), rows, INPUT, cache, seen.append)
    (tmp_path / "a").rename(tmp_path / "b")
    moved = tmp_path / "b" / "r.jsonl"
    cached_pixels(open_dataset(str(moved)), rows, INPUT, cache, seen.append)
    assert sum(seen) == 2, "the same bytes elsewhere were decoded again"
    Image.new("RGB", (256, 256), "blue").save(tmp_path / "b" / "p" / "0.jpg")
    assert first_pixel(open_dataset(str(moved)), cache)[2] > 200


def test_a_damaged_photo_that_is_replaced_counts_again(tmp_path: Path) -> None:
    file = photos_of(tmp_path, ["red", "green"])
    good = (tmp_path / "p" / "0.jpg").read_bytes()
    (tmp_path / "p" / "0.jpg").write_bytes(good[:300])
    dataset, rows = open_dataset(str(file)), np.arange(2)

    def usable() -> list[bool]:
        array = cached_pixels(dataset, rows, INPUT, tmp_path / "cache", lambda count: None)
        assert len(array.complaints) == 2 - array.usable.sum()
        return [bool(one) for one in array.usable]

    assert usable() == [False, True]
    (tmp_path / "p" / "0.jpg").write_bytes(good)
    assert usable() == [True, True]


def test_a_photo_that_was_only_out_of_reach_counts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are as before: what failed was a limit, a decoder or a network drive."""
    file = photos_of(tmp_path, ["red", "green"])
    dataset, rows, cache = open_dataset(str(file)), np.arange(2), tmp_path / "cache"
    photo = type(dataset).reduced_photo

    def away(self: Dataset, index: int, side: int) -> Image.Image:
        if index == 0:
            raise InputError("the photo took too long")
        return photo(self, index, side)

    with monkeypatch.context() as patched:
        patched.setattr(type(dataset), "reduced_photo", away)
        assert not cached_pixels(dataset, rows, INPUT, cache, lambda count: None).usable[0]
        assert not cached_pixels(dataset, rows, INPUT, cache, lambda count: None).usable[0]
    assert cached_pixels(dataset, rows, INPUT, cache, lambda count: None).usable.all()
    assert first_pixel(dataset, cache)[0] > 200


def test_photos_that_change_while_they_are_read_are_not_kept_under_another_key(
    tmp_path: Path,
) -> None:
    file = photos_of(tmp_path, ["red"])
    dataset = open_dataset(str(file))

    def replaced(_: int) -> None:
        if not (tmp_path / "done").exists():
            (tmp_path / "done").touch()
            Image.new("RGB", (256, 256), "blue").save(tmp_path / "p" / "0.jpg")

    array = cached_pixels(dataset, np.arange(1), INPUT, tmp_path / "cache", replaced)
    assert array.squares[0, 100, 100, 2] > 200
    assert len(list((tmp_path / "cache" / "photos").iterdir())) == 1


def test_samples_that_differ_in_their_looks_alone_share_no_photos(tmp_path: Path) -> None:
    """Their names are the same."""
    looks = (SampleDataset(100), SampleDataset(100, appearance_seed=1))
    first, second = (first_pixels(one, tmp_path) for one in looks)
    assert not np.array_equal(first, second)


def first_pixels(dataset: Dataset, cache: Path) -> NDArray[np.generic]:
    return np.array(cached_pixels(dataset, np.arange(3), INPUT, cache, lambda count: None).squares)


def test_random_crops_and_views_have_the_networks_size_and_repeat_with_the_seed() -> None:
    photo = open_dataset("sample:100").photo(0)
    first, again = (random_view(photo, INPUT, 0.3, np.random.default_rng(5)) for _ in range(2))
    assert first.shape == (224, 224, 3)
    assert np.array_equal(first, again)


def test_random_crops_are_parts_of_their_squares_half_of_them_mirrored() -> None:
    """And those of caches and of workers lie alike in all places: a corner that is never shown
    would not be missed."""
    generator = np.random.default_rng(0)
    squares = generator.integers(256, size=(60, 8, 8, 3), dtype=np.uint8)
    alone = np.empty((60, 6, 6, 3), dtype=np.uint8)
    for row, (crop, square) in enumerate(zip(alone, squares, strict=True)):
        write_random_crop(crop, square, pair_draws(1, 2, row, 0))
    for shown in (random_crops(squares, 6, generator), alone):
        places = [
            (top, left, step)
            for square, crop in zip(squares, shown, strict=True)
            for top in range(3)
            for left in range(3)
            for step in (1, -1)
            if np.array_equal(square[top : top + 6, left : left + 6][:, ::step], crop)
        ]
        assert len(places) == 60
        assert {place[:2] for place in places} == {
            (top, left) for top in range(3) for left in range(3)
        }
        assert 15 <= sum(step == -1 for *_, step in places) <= 45


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


def test_windows_of_a_pair_lie_where_its_own_draws_say() -> None:
    """Two processes must show of their shares of a batch what one shows of the whole."""
    places = torch.arange(49).view(1, 49, 1).expand(6, 49, 1)
    corners = np.random.default_rng(0).random((6, 2))
    whole = windows(places, 0.2, np.random.default_rng(1), corners)
    half = windows(places[3:], 0.2, np.random.default_rng(1), corners[3:])
    assert torch.equal(whole[3:], half)
    assert len({int(photo.min()) for photo in whole}) > 1
