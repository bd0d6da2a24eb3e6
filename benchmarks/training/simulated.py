"""A dataset of any size: recipes of the synthetic sample, and a few stored photos over and over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL.Image import Image

from hficma.data.dataset import Dataset, open_dataset
from hficma.data.directory import DatasetDirectory
from hficma.data.photo_origin import photo_origin
from hficma.data.photo_places import PhotoRoot
from hficma.data.photos import photo_count, photo_pixels, reduced_photo
from hficma.data.sample import SampleDataset
from hficma.data.sources.plain import DatasetSource
from hficma.data.store.importing import import_dataset
from hficma.recipe import Recipe
from hficma.types import Mask, Pixels, Strings

PHOTOS = 1_000
"""Photos that are drawn where no data are named: half a minute's work, done once."""


def stored_photos(data: str | None, cache: Path) -> DatasetDirectory:
    """Return a dataset whose photos are stored as an import stores them, made now if missing.

    Args:
        data: what `open_dataset` takes; None draws PHOTOS of the sample.
        cache: the workspace's cache folder.
    """
    dataset = open_dataset(data or f"sample:{PHOTOS}")
    if isinstance(dataset, DatasetDirectory):
        return dataset
    folder = cache / "bench-training" / dataset.name.replace("/", "-").replace(":", "-").strip("-")
    if not folder.is_dir():
        import_dataset(DatasetSource(dataset), folder)
    return DatasetDirectory(folder)


class SimulatedDataset:
    """Recipes of a sample of any size, whose photos are those of a small dataset, repeated.

    A photo costs as much to read and decode as one of a large dataset does once its pages are in
    memory; recipes are all different.

    Args:
        photos: the small dataset.
        size: recipes.
    """

    def __init__(self, photos: Dataset, size: int) -> None:
        self._photos, self._recipes = photos, SampleDataset(size)
        self._with_photo = [
            index for index in range(len(photos)) if photos.recipe(index).image is not None
        ]

    @property
    def name(self) -> str:
        """Return a name that says what it is; nothing opens it."""
        return f"{len(self)} recipes with photos of {self._photos.name}"

    def __len__(self) -> int:
        """Count the recipes."""
        return len(self._recipes)

    def recipe(self, index: int) -> Recipe:
        """Return a recipe of the sample."""
        return self._recipes.recipe(index)

    def photo(self, index: int) -> Image:
        """Return one of the few photos."""
        return self._photos.photo(self._photo_index(index))

    def reduced_photo(self, index: int, side: int) -> Image:
        """Return one of the few photos at a reduced size."""
        return reduced_photo(self._photos, self._photo_index(index), side)

    def photo_count(self, index: int) -> int:
        """Return how many photos the recipe has."""
        return photo_count(self._photos, self._photo_index(index))

    def photo_pixels(self, index: int, side: int, number: int = 0) -> Pixels:
        """Return one of the few photos as pixels."""
        return photo_pixels(self._photos, self._photo_index(index), side, number)

    def photo_origin(self, index: int) -> Path | str:
        """Return where the photo's bytes are."""
        return photo_origin(self._photos, self._photo_index(index))

    @property
    def photo_root(self) -> PhotoRoot | None:
        """Return None: no index shows these photos."""
        return None

    def photo_place(self, index: int) -> None:
        """Return None, as `photo_root`."""

    def partitions(self) -> Strings:
        """Return `train` for every recipe."""
        return np.full(len(self), "train")

    def has_photo(self) -> Mask:
        """Return that every recipe has a photo."""
        return np.ones(len(self), dtype=np.bool_)

    def _photo_index(self, index: int) -> int:
        return self._with_photo[index % len(self._with_photo)]
