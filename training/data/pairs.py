"""The pairs of one run: their recipes in memory, their photos from a cache on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from hficma.data.dataset import Dataset, positions
from hficma.errors import InputError
from hficma.model import Model
from hficma.model.encoders.image.features import ImageFeatures, mean_pooled
from hficma.progress import Progress
from hficma.types import Positions

from ..config.options import Options
from .keep_out import VALIDATION_SHARE
from .neighbours import Neighbours
from .photo_cache import PhotoArrays, cached_features, cached_pixels
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


def in_order(train: Positions, validation: Positions) -> Positions:
    """Return the positions (P,) of a run's pairs, by row."""
    return np.sort(np.concatenate([train, validation]))


def pair_features(
    model: Model,
    dataset: Dataset,
    rows: Positions,
    options: Options,
    cache: Path,
    on_done: Callable[[int], None],
) -> PhotoArrays:
    """Return what a run's frozen image encoder says of its pairs' photos; see `cached_features`.

    Args:
        model: of the run, its image encoder in evaluation mode.
        dataset: holds the pairs.
        rows: positions (P,) of all pairs of the run, `in_order`.
        options: of the run.
        cache: the workspace's cache folder.
        on_done: called with the number of photos that were just added.
    """
    return cached_features(
        model, dataset, rows, cache, on_done,
        regions=model.has_local or options.photos.window < 1,
        crops=options.model.image.crops, views=options.photos.views, scale=options.photos.scale,
    )  # fmt: skip


class Pairs:
    """Training and validation pairs of a run, by row: 0 to P - 1 in the dataset's order.

    Attributes:
        recipes: of all pairs, by row.
        texts: their ids, by row, and then those of their neighbours.
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
        neighbours: recipes without photos that are shown in place of theirs, by row; None: none.
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
        neighbours: Neighbours | None = None,
    ) -> None:
        self._dataset, self._options = dataset, options
        self._neighbours = neighbours
        self._cache, self._progress = cache, progress
        # In the dataset's order, so that other splits of the same pairs find the same cache.
        self._positions = in_order(train, validation)
        self._features: PhotoArrays | None = None
        self._pixels: PhotoArrays | None = None
        self._noted = False
        recipes = [dataset.recipe(int(position)) for position in self._positions]
        self.recipes = recipes
        others = () if neighbours is None else neighbours.recipes
        self.texts = RecipeTexts([*recipes, *others], model.tokenizer)
        # A position's row is its place among the sorted positions.
        self.train = np.searchsorted(self._positions, np.sort(train))
        self.validation = np.searchsorted(self._positions, np.sort(validation))

    def shown_texts(self, rows: Positions, generator: np.random.Generator) -> Positions:
        """Return which of `texts` a training step shows: a pair's own, or at times a neighbour's.

        Args:
            rows: which pairs (B,).
            generator: draws neighbours, where there are any.
        """
        if self._neighbours is None:
            return rows
        places = self._neighbours.draw(rows, self._options.text.neighbours, generator)
        return np.where(places < 0, rows, len(self.recipes) + places)

    def prepare(self, model: Model, *, cached: bool) -> None:
        """Fill the cache that the next epochs read, and leave out photos that cannot be read.

        Args:
            model: whose image encoder is run once where features are cached.
            cached: the image encoder is as it was when the run began: its features are read, not
                the photos' pixels.

        Raises:
            InputError: hardly any photo can be read.
        """
        cache = self._feature_cache(model) if cached else self._pixel_cache(model)
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

    def training_features(
        self,
        model: Model,
        rows: Positions,
        generator: np.random.Generator,
        *,
        cached: bool,
        small: bool = False,
    ) -> ImageFeatures:
        """Return features of random views of photos, for a training step.

        Args:
            model: whose image encoder is used.
            rows: which pairs (B,).
            generator: draws views and regions.
            cached: the image encoder is as it was when the run began, so that the cache holds its
                features.
            small: photos at half their size, where the image encoder runs.

        Returns:
            as many regions for each photo: R, or those of a window.
        """
        if cached:
            cache = self._feature_cache(model)
            view = generator.integers(cache.views, size=len(rows))
            features = _moved(cache.features(rows, view), model)
        else:
            size = model.image_input.size
            squares = np.asarray(self._pixel_cache(model).squares[rows], dtype=np.uint8)
            crops = (
                random_crops(halved(squares), size // 2, generator)
                if small
                else random_crops(squares, size, generator)
            )
            features = model.image_features(torch.from_numpy(crops).to(model.device))
        if self._options.photos.window < 1:
            assert features.regions is not None
            shown = windows(features.regions, self._options.photos.window, generator)
            # A vector of the whole that is no mean of regions has seen all of them.
            return mean_pooled(shown) if model.pools_regions else features._replace(regions=shown)
        return features

    def centre_features(self, model: Model, rows: Positions, *, cached: bool) -> ImageFeatures:
        """Return features of centre crops, for validation; see `training_features`."""
        if cached:
            return _moved(self._feature_cache(model).features(rows, 0), model)
        squares = np.asarray(self._pixel_cache(model).squares[rows], dtype=np.uint8)
        crops = torch.from_numpy(np.ascontiguousarray(centre_crops(squares, model.image_input)))
        return model.image_features(crops.to(model.device))

    def _feature_cache(self, model: Model) -> PhotoArrays:
        """Return the features of all photos, computed where the workspace does not hold them."""
        if self._features is None:
            training = model.trunk.training
            model.trunk.eval()
            self._features = pair_features(
                model, self._dataset, self._positions, self._options, self._cache,
                self._photo_counter(),
            )  # fmt: skip
            model.trunk.train(training)
        return self._features

    def _pixel_cache(self, model: Model) -> PhotoArrays:
        """Return the pixels of all photos, decoded where the workspace does not hold them."""
        if self._pixels is None:
            self._pixels = cached_pixels(
                self._dataset,
                self._positions,
                model.image_input,
                self._cache,
                self._photo_counter(),
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


def _moved(features: ImageFeatures, model: Model) -> ImageFeatures:
    """Return features where a model's weights are."""
    regions = features.regions
    return ImageFeatures(
        features.pooled.to(model.device), None if regions is None else regions.to(model.device)
    )
