"""The pairs of one run: their recipes in memory, their photos from a cache on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hficma.data.dataset import Dataset, positions
from hficma.errors import InputError
from hficma.images import CROP
from hficma.model import Model
from hficma.progress import Progress
from hficma.types import Positions

from ..config.options import Options
from .keep_out import VALIDATION_SHARE
from .photo_cache import PhotoArray, cached_pixels, cached_regions
from .photo_views import centre_crops, halved, random_crops, windows
from .recipe_batches import RecipeTexts


def split(
    dataset: Dataset, seed: int, note: Callable[[str], None], *, validate: bool = True
) -> tuple[Positions, Positions]:
    """Return the positions of the training and validation pairs.

    Args:
        dataset: whose partitions say which; `keep_out` chooses them where it names none.
        seed: draws validation pairs, for a run of an older version, which did not keep them.
        note: hears where that is so.
        validate: keep validation pairs; without, they are training pairs too.

    Returns:
        positions in the dataset (P,), ascending, of training and of validation.

    Raises:
        InputError: too few pairs to train on.
    """
    train = positions(dataset, ("train",), with_photo=True)
    validation = positions(dataset, ("val",), with_photo=True)
    if not validate:
        train, validation = np.sort(np.concatenate([train, validation])), validation[:0]
    if len(train) < 2 or (validate and not len(validation) and len(train) < 4):
        raise InputError(
            f"{dataset.name}: {len(train)} training pairs; training takes recipes with photos "
            "(field image), a few hundred at least"
        )
    if validate and not len(validation):
        order = np.random.default_rng(seed).permutation(train)
        count = max(2, round(VALIDATION_SHARE * len(train)))
        train, validation = np.sort(order[count:]), np.sort(order[:count])
        note(f"{dataset.name} names no validation pairs: {count} training pairs are held out")
    return train, validation


class Pairs:
    """Training and validation pairs of a run, by row: 0 to P - 1 in the dataset's order.

    Attributes:
        recipes: of all pairs, by row.
        texts: their ids, by row.
        train: rows that are trained on.
        validation: rows that are validated on.

    Args:
        dataset: where they come from.
        train: positions of the training pairs.
        validation: positions of the validation pairs.
        model: for its tokenizer.
        options: of the run.
        cache: the workspace's cache folder.
        progress: receives stages, steps and notes.
    """

    def __init__(
        self,
        dataset: Dataset,
        train: Positions,
        validation: Positions,
        model: Model,
        options: Options,
        cache: Path,
        progress: Progress,
    ) -> None:
        self._dataset, self._options = dataset, options
        self._cache, self._progress = cache, progress
        # In the dataset's order, so that other splits of the same pairs find the same cache.
        self._positions = np.sort(np.concatenate([train, validation]))
        self._regions: PhotoArray | None = None
        self._pixels: PhotoArray | None = None
        self._noted = False
        recipes = [dataset.recipe(int(position)) for position in self._positions]
        self.recipes = recipes
        self.texts = RecipeTexts(recipes, model.tokenizer)
        # A position's row is its place among the sorted positions.
        self.train = np.searchsorted(self._positions, np.sort(train))
        self.validation = np.searchsorted(self._positions, np.sort(validation))

    def prepare(self, model: Model, *, cached_regions: bool) -> None:
        """Fill the cache that the next epochs read, and leave out photos that cannot be read.

        Args:
            model: whose image encoder is run once where regions are cached.
            cached_regions: the image encoder is as it was when the run began: its regions are
                read, not the photos' pixels.

        Raises:
            InputError: hardly any photo can be read.
        """
        cache = self._region_cache(model) if cached_regions else self._pixel_cache()
        if cache.complaints and not self._noted:
            self._noted = True
            self._progress.note(
                f"photos left out: {len(cache.complaints)}; the first: {cache.complaints[0]}"
            )
        validates = len(self.validation) > 0
        self.train = self.train[cache.usable[self.train]]
        self.validation = self.validation[cache.usable[self.validation]]
        if len(self.train) < 2 or (validates and not len(self.validation)):
            raise InputError(f"{self._dataset.name}: hardly any photo can be read")

    def training_regions(
        self,
        model: Model,
        rows: Positions,
        generator: np.random.Generator,
        *,
        cached: bool,
        small: bool = False,
    ) -> Tensor:
        """Return regions (B, R', C) of random views of photos, for a training step.

        Args:
            model: whose image encoder is used.
            rows: which pairs (B,).
            generator: draws views and regions.
            cached: the image encoder is as it was when the run began, so that the cache holds its
                regions.
            small: photos at half their size, where the image encoder runs.

        Returns:
            R' regions, as many for each photo: R, or those of a window.
        """
        if cached:
            cache = self._region_cache(model).rows  # (P, 1 + views, R, C)
            view = generator.integers(cache.shape[1], size=len(rows))
            regions = torch.from_numpy(cache[rows, view]).to(model.device).float()
        else:
            squares = np.asarray(self._pixel_cache().rows[rows], dtype=np.uint8)
            crops = (
                random_crops(halved(squares), CROP // 2, generator)
                if small
                else random_crops(squares, CROP, generator)
            )
            regions = model.regions(torch.from_numpy(crops).to(model.device))
        if self._options.photos.window < 1:
            return windows(regions, self._options.photos.window, generator)
        return regions

    def centre_regions(self, model: Model, rows: Positions, *, cached: bool) -> Tensor:
        """Return regions (B, R, C) of centre crops, for validation; see `training_regions`."""
        if cached:
            cache = self._region_cache(model).rows  # view 0 is the centre crop
            return torch.from_numpy(np.asarray(cache[rows, 0])).to(model.device).float()
        squares = np.asarray(self._pixel_cache().rows[rows], dtype=np.uint8)
        crops = torch.from_numpy(np.ascontiguousarray(centre_crops(squares)))
        return model.regions(crops.to(model.device))

    def _region_cache(self, model: Model) -> PhotoArray:
        """Return the regions of all photos, computed where the workspace does not hold them."""
        if self._regions is None:
            training = model.trunk.training
            model.trunk.eval()
            self._regions = cached_regions(
                model,
                self._dataset,
                self._positions,
                self._cache,
                self._photo_counter(),
                views=self._options.photos.views,
                scale=self._options.photos.scale,
            )
            model.trunk.train(training)
        return self._regions

    def _pixel_cache(self) -> PhotoArray:
        """Return the pixels of all photos, decoded where the workspace does not hold them."""
        if self._pixels is None:
            self._pixels = cached_pixels(
                self._dataset, self._positions, self._cache, self._photo_counter()
            )
        return self._pixels

    def _photo_counter(self) -> Callable[[int], None]:
        """Return what counts photos that are read: a stage that a full cache never begins."""
        begun = False

        def count(photos: int) -> None:
            nonlocal begun
            if not begun:
                self._progress.stage("photos", len(self._positions))
                begun = True
            self._progress.advance(photos)

        return count
