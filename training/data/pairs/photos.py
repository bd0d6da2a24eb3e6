"""The photos of a run's pairs in the workspace's cache, and whether they fit there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hficma.data.dataset import Dataset
from hficma.model import Model
from hficma.model.encoders.image.features import ImageFeatures
from hficma.progress import Progress
from hficma.types import Pixels, Positions

from ...config.options import Options
from ..loader.limits import readable_size
from ..photo_cache import (
    PhotoArrays,
    Specs,
    cached_features,
    cached_pixels,
    feature_specs,
    pixel_specs,
    specs_bytes,
)
from ..photo_views import centre_crops, halved, random_crops

WORTH_SAYING = 1_000_000_000
"""Bytes of a cache from which on its size is said before it is written."""


class PairPhotos:
    """Features or pixels of the photos of all pairs of a run, each cached when it is first needed.

    Args:
        dataset: holds the photos.
        positions: (P,) of the pairs, by row.
        options: of the run.
        cache: the workspace's cache folder.
        progress: receives stages, steps and notes.
    """

    def __init__(
        self,
        dataset: Dataset,
        positions: Positions,
        options: Options,
        cache: Path,
        progress: Progress,
    ) -> None:
        self._dataset, self._positions, self._options = dataset, positions, options
        self._cache, self._progress = cache, progress
        self._features: PhotoArrays | None = None
        self._pixels: PhotoArrays | None = None
        self._fits: dict[bool, bool] = {}

    def are_cached(self, model: Model, *, features: bool) -> bool:
        """Return whether features, or pixels, are cached: they are of one photo each, and fit."""
        if self._options.photos.per_recipe > 1:
            return False
        if features not in self._fits:
            count = len(self._positions)
            with _evaluated(model.trunk):
                specs = (
                    pair_feature_specs(model, count, self._options)
                    if features
                    else pixel_specs(count, model.image_input)
                )
            self._fits[features] = fits(specs, self._options)
            if not self._fits[features]:
                self._progress.note(
                    f"photos are read in every epoch: their {'features' if features else 'pixels'} "
                    f"would take {readable_size(specs_bytes(specs))} in the cache, more than "
                    f"loader.cache_limit, {readable_size(self._options.loader.cache_limit or 0)}"
                )
        return self._fits[features]

    def features(self, model: Model) -> PhotoArrays:
        """Return the features of all photos, computed where the workspace does not hold them."""
        if self._features is None:
            with _evaluated(model.trunk):
                self._features = pair_features(
                    model, self._dataset, self._positions, self._options, self._cache,
                    photo_counter(self._progress, len(self._positions)), on_write=self._say_size,
                )  # fmt: skip
        return self._features

    def pixels(self, model: Model) -> PhotoArrays:
        """Return the pixels of all photos, decoded where the workspace does not hold them."""
        if self._pixels is None:
            self._pixels = cached_pixels(
                self._dataset, self._positions, model.image_input, self._cache,
                photo_counter(self._progress, len(self._positions)), on_write=self._say_size,
            )  # fmt: skip
        return self._pixels

    def view_features(
        self, model: Model, rows: Positions, generator: np.random.Generator
    ) -> ImageFeatures:
        """Return features (B, ...) of a random view of each photo, where the weights are."""
        cache = self.features(model)
        views = generator.integers(cache.views, size=len(rows))
        return cache.features(rows, views).to(model.device)

    def crops(
        self, model: Model, rows: Positions, generator: np.random.Generator, *, small: bool
    ) -> Tensor:
        """Return random crops (B, s, s, 3) of photos, at half their size where `small`."""
        size = model.image_input.size
        squares = np.asarray(self.pixels(model).squares[rows], dtype=np.uint8)
        crops = (
            random_crops(halved(squares), size // 2, generator)
            if small
            else random_crops(squares, size, generator)
        )
        return torch.from_numpy(crops)

    def _say_size(self, size: int) -> None:
        """Say how much the cache is about to take."""
        if size >= WORTH_SAYING:
            self._progress.note(f"{self._cache}: {readable_size(size)} of photos are written there")


def photo_counter(progress: Progress, photos: int) -> Callable[[int], None]:
    """Return what counts photos that are read: a stage that a full cache never begins."""
    begun = False

    def count(done: int) -> None:
        nonlocal begun
        if not begun:
            progress.stage("photos", photos)
            begun = True
        progress.advance(done)

    return count


def cached_centres(cache: PhotoArrays, rows: Positions, model: Model) -> Pixels:
    """Return the crops (B, s, s, 3) that evaluation shows, of cached pixels."""
    squares = np.asarray(cache.squares[rows], dtype=np.uint8)
    return np.ascontiguousarray(centre_crops(squares, model.image_input))


def pair_features(
    model: Model,
    dataset: Dataset,
    rows: Positions,
    options: Options,
    cache: Path,
    on_done: Callable[[int], None],
    *,
    on_write: Callable[[int], None] = lambda size: None,
) -> PhotoArrays:
    """Return what a run's frozen image encoder says of its pairs' photos; see `cached_features`.

    Args:
        model: of the run, its image encoder in evaluation mode.
        dataset: holds the pairs.
        rows: positions (P,) of all pairs of the run, `in_order`.
        options: of the run.
        cache: the workspace's cache folder.
        on_done: called with the number of photos that were just added.
        on_write: called with the bytes that are about to be written.
    """
    return cached_features(
        model, dataset, rows, cache, on_done,
        regions=_reads_regions(model, options), crops=options.model.image.crops,
        views=options.photos.views, scale=options.photos.scale, on_write=on_write,
    )  # fmt: skip


def pair_feature_specs(model: Model, pairs: int, options: Options) -> Specs:
    """Return what `pair_features` writes of so many pairs."""
    return feature_specs(
        model, pairs, regions=_reads_regions(model, options), crops=options.model.image.crops,
        views=options.photos.views,
    )  # fmt: skip


def fits(specs: Specs, options: Options) -> bool:
    """Return whether arrays are cached, by the limit of a run; one of an older version has none."""
    limit = options.loader.cache_limit
    return limit is None or specs_bytes(specs) <= limit


def _reads_regions(model: Model, options: Options) -> bool:
    """Return whether anything reads regions of photos."""
    return model.has_local or options.photos.window < 1


@contextlib.contextmanager
def _evaluated(encoder: nn.Module) -> Iterator[None]:
    """Put an image encoder into evaluation mode for the block."""
    training = encoder.training
    encoder.eval()
    yield
    encoder.train(training)
