"""The pairs of one run in memory or mapped: their texts, photos and dish classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hficma.data.dataset import Dataset, positions
from hficma.errors import InputError
from hficma.images import CROP
from hficma.model import Model
from hficma.progress import Progress

from ..config.options import Options
from .keep_out import VALIDATION_SHARE
from .photo_cache import PhotoArray, cached_pixels, cached_regions
from .photo_views import centre_crops, halved, random_crops, windows
from .recipe_batches import RecipeTexts

Positions = npt.NDArray[np.int64]


def split(
    dataset: Dataset, seed: int, note: Callable[[str], None], *, validate: bool = True
) -> tuple[Positions, Positions]:
    """Positions of the training and validation pairs.

    Args:
        dataset: whose partitions say which; `keep_out` chooses them where it names none.
        seed: draws validation pairs, for a run of an older version, which did not keep them.
        note: told where that is so.
        validate: keep validation pairs; without, they are training pairs too.

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
        held_out = max(2, round(VALIDATION_SHARE * len(train)))
        train, validation = np.sort(order[held_out:]), np.sort(order[:held_out])
        note(f"{dataset.name} names no validation pairs: {held_out} training pairs are held out")
    return train, validation


class Pairs:
    """Training and validation pairs, by row.

    Args:
        dataset: where they come from.
        train: positions of the training pairs.
        validation: positions of the validation pairs.
        model: for its tokenizer and trunk.
        options: of the run.
        cache: the workspace's cache folder.
        progress: told of the work.
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
        self._told = False
        recipes = [dataset.recipe(int(position)) for position in self._positions]
        self.recipes = recipes
        self.texts = RecipeTexts(recipes, model.tokenizer)
        self.train = np.searchsorted(self._positions, np.sort(train))
        self.validation = np.searchsorted(self._positions, np.sort(validation))

    def prepare(self, model: Model, *, original_trunk: bool) -> None:
        """Fill the cache that the next epochs read, and leave out photos that cannot be read."""
        found = self._region_cache(model) if original_trunk else self._pixel_cache()
        if found.complaints and not self._told:
            self._told = True
            self._progress.note(
                f"photos left out: {len(found.complaints)}; the first: {found.complaints[0]}"
            )
        validates = len(self.validation) > 0
        self.train = self.train[found.usable[self.train]]
        self.validation = self.validation[found.usable[self.validation]]
        if len(self.train) < 2 or (validates and not len(self.validation)):
            raise InputError(f"{self._dataset.name}: hardly any photo can be read")

    def shown_regions(
        self,
        model: Model,
        rows: Positions,
        generator: np.random.Generator,
        *,
        original: bool,
        small: bool = False,
    ) -> Tensor:
        """Regions (B, R', C) of random views, for a training step.

        Args:
            model: whose trunk is used.
            rows: which pairs.
            generator: draws views and regions.
            original: the trunk is as it was when the run began, so the cache holds.
            small: photos at half their size, where the trunk runs.
        """
        if original:
            cached = self._region_cache(model).rows
            view = generator.integers(cached.shape[1], size=len(rows))
            regions = torch.from_numpy(cached[rows, view]).to(model.device).float()
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

    def centre_regions(self, model: Model, rows: Positions, *, original: bool) -> Tensor:
        """Regions (B, R, C) of centre crops, for evaluation."""
        if original:
            cached = self._region_cache(model).rows
            return torch.from_numpy(np.asarray(cached[rows, 0])).to(model.device).float()
        squares = np.asarray(self._pixel_cache().rows[rows], dtype=np.uint8)
        crops = torch.from_numpy(np.ascontiguousarray(centre_crops(squares)))
        return model.regions(crops.to(model.device))

    def _region_cache(self, model: Model) -> PhotoArray:
        if self._regions is None:
            self._progress.stage("photos", len(self._positions))
            training = model.trunk.training
            model.trunk.eval()
            self._regions = cached_regions(
                model,
                self._dataset,
                self._positions,
                self._cache,
                self._progress.advance,
                views=self._options.photos.views,
                scale=self._options.photos.scale,
            )
            model.trunk.train(training)
        return self._regions

    def _pixel_cache(self) -> PhotoArray:
        if self._pixels is None:
            self._progress.stage("photos", len(self._positions))
            self._pixels = cached_pixels(
                self._dataset, self._positions, self._cache, self._progress.advance
            )
        return self._pixels
