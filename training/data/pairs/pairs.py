"""The pairs of one run: their recipes as ids, their photos from a cache or from the dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hficma.data.dataset import Dataset
from hficma.data.subset import SubsetRecipes
from hficma.errors import InputError
from hficma.metrics import bags
from hficma.model import Model, RecipeBatch
from hficma.model.encoders.image.features import ImageFeatures, mean_pooled
from hficma.progress import Progress
from hficma.types import Floats64, Pixels, Positions

from ...config.options import Options
from ...parallel import distributed
from ..loader.batches import (
    RECIPE,
    WINDOW,
    WINDOW_PLACE,
    PhotoBatches,
    Request,
    Shown,
    pair_draws,
    pair_generator,
)
from ..loader.loader import Loader
from ..neighbours import Neighbours
from ..photo_cache import PhotoArrays, cached_pixels
from ..photo_reading import read_photos
from ..photo_views import windows
from ..recipe_batches import RecipeTexts
from .photos import PairPhotos, cached_centres, photo_counter
from .split import in_order


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """A batch of pairs, whose photos are there and whose recipes are not encoded yet."""

    rows: Positions
    """Pairs (B,)."""
    shown: ImageFeatures | Tensor
    """Features of photos from the cache, or pixels (B, s, s, 3) uint8."""
    window: np.random.Generator
    """Draws which regions of photos are shown, then ..."""
    corners: Floats64 | None = None
    """(B, 2) of 0 to below 1: where the windows lie, by pair; None: `window` draws that too."""
    text: np.random.Generator | Sequence[np.random.Generator] | None
    """... which recipes and what of them: for the batch, or for each pair; None shows all."""


class Pairs:
    """Training and validation pairs of a run, by row: 0 to P - 1 in the dataset's order.

    Attributes:
        recipes: of all pairs, by row, each read when it is looked at.
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
        self._photos = PairPhotos(dataset, self._positions, options, cache, progress)
        self._noted = False
        self._loader: Loader | None = None
        self._validation_pixels: tuple[Positions, PhotoArrays] | None = None
        self._complaints: dict[int, str] = {}
        self.recipes = SubsetRecipes(dataset, self._positions)
        others = () if neighbours is None else neighbours.recipes
        self.texts = RecipeTexts(chain(self.recipes, others), model.tokenizer)
        # A position's row is its place among the sorted positions.
        self.train = np.searchsorted(self._positions, np.sort(train))
        self.validation = np.searchsorted(self._positions, np.sort(validation))

    def prepare(self, model: Model, *, cached: bool) -> None:
        """Fill the cache that the next epochs read, and leave out photos that cannot be read.

        Where photos are read in every epoch, only those that are validated on are read now: one
        that is trained on and cannot be read is replaced when its turn comes.

        Args:
            model: whose image encoder is run once where features are cached.
            cached: the image encoder is as it was when the run began: its features are read, not
                the photos' pixels.

        Raises:
            InputError: hardly any photo can be read.
        """
        if not self._photos.are_cached(model, features=cached):
            self._prepare_validation(model)
            return
        cache = self._photos.features(model) if cached else self._photos.pixels(model)
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

    def validation_sample(self) -> Positions:
        """Return the rows that are validated on: some of `validation`, the same ones each time."""
        most = self._options.trainer.validation_pairs
        return self.validation[bags(len(self.validation), most)[0]]

    def epoch(
        self,
        model: Model,
        batches: Sequence[Positions],
        views: np.random.Generator,
        *,
        epoch: int,
        cached: bool,
        small: bool = False,
        first: int = 0,
    ) -> Iterator[PairBatch]:
        """Yield the batches of an epoch of training, in order; each is there until the next.

        What is shown of a pair is drawn from `views` where photos are cached, one pair after the
        other; where they are read, it follows from seed, epoch and pair.

        Args:
            model: whose image encoder is used.
            batches: which pairs (B,) each.
            views: draws views, regions, recipes and what is shown of them.
            epoch: its number, from 1.
            cached: as for `prepare`.
            small: photos at half their size, where the image encoder is trained.
            first: batches that were learnt from before the run was interrupted; they are not read.

        Raises:
            InputError: photos cannot be read any more.
        """
        if self._photos.are_cached(model, features=cached):
            for rows in batches[first:]:
                shown = (
                    self._photos.view_features(model, rows, views)
                    if cached
                    else self._photos.crops(model, rows, views, small=small)
                )
                yield PairBatch(rows=rows, shown=shown, window=views, text=views)
            return
        if self._loader is None:
            self._loader = self._new_loader(model)
        seed, known = self._options.trainer.seed, len(self._complaints)
        requests = [Request(epoch, rows, not cached, small) for rows in batches[first:]]
        for number, photos in enumerate(self._loader.epoch(requests), start=first):
            assert isinstance(photos.pixels, Tensor)  # the loader knows each place
            for row, complaint in photos.complaints:
                if row not in self._complaints:
                    self._complaints[row] = complaint
                    self._progress.bad(complaint)
            yield PairBatch(
                rows=photos.rows,
                shown=photos.pixels,
                window=pair_generator(seed, epoch, number, WINDOW),
                # By pair, so that of several processes each shows its part as one would all.
                corners=np.array(
                    [pair_draws(seed, epoch, int(row), WINDOW_PLACE)[:2] for row in photos.rows]
                ),
                text=[pair_generator(seed, epoch, int(row), RECIPE) for row in photos.rows]
                if self._draws_recipes()
                else None,
            )
        if len(self._complaints) > known:
            self._progress.note(
                f"photos that could not be read: {len(self._complaints)}, and other pairs were "
                f"shown in their place; the first: {self.complaints[0]}"
            )

    @property
    def complaints(self) -> tuple[str, ...]:
        """Return a line for each photo that could not be read in an epoch."""
        return tuple(self._complaints.values())

    def features(self, model: Model, batch: PairBatch) -> ImageFeatures:
        """Return features of a batch's photos, for a training step.

        Args:
            model: whose image encoder is run, where the batch holds pixels.
            batch: of `epoch`.

        Returns:
            as many regions for each photo: R, or those of a window.
        """
        features = (
            model.image_features(batch.shown.to(model.device))
            if isinstance(batch.shown, Tensor)
            else batch.shown
        )
        if self._options.photos.window < 1:
            assert features.regions is not None
            least = self._options.photos.window
            shown = windows(features.regions, least, batch.window, batch.corners)
            # A vector of the whole that is no mean of regions has seen all of them.
            return mean_pooled(shown) if model.pools_regions else features._replace(regions=shown)
        return features

    def recipe_batch(self, model: Model, batch: PairBatch) -> RecipeBatch:
        """Return a batch's recipes, or neighbours in their place, with parts left out at random."""
        if batch.text is None:
            return self.texts.batch(model, batch.rows)
        rows = self._shown_texts(batch.rows, batch.text)
        return self.texts.batch(model, rows, options=self._options.text, generator=batch.text)

    def centre_features(self, model: Model, rows: Positions, *, cached: bool) -> ImageFeatures:
        """Return features of centre crops, for validation; see `prepare`.

        Photos that are read and cannot be are left out; those of `validation` can be.
        """
        if not self._photos.are_cached(model, features=cached):
            crops = self._read_centres(model, rows)
        elif cached:
            return self._photos.features(model).features(rows, 0).to(model.device)
        else:
            crops = cached_centres(self._photos.pixels(model), rows, model)
        return model.image_features(torch.from_numpy(crops).to(model.device))

    def _shown_texts(
        self, rows: Positions, generator: np.random.Generator | Sequence[np.random.Generator]
    ) -> Positions:
        """Return which of `texts` are shown: a pair's own, or at times a neighbour's."""
        if self._neighbours is None:
            return rows
        chance = self._options.text.neighbours
        if isinstance(generator, np.random.Generator):
            places = self._neighbours.draw(rows, chance, generator)
        else:
            draws = (
                self._neighbours.draw(rows[place : place + 1], chance, one)
                for place, one in enumerate(generator)
            )
            places = np.concatenate(list(draws))
        return np.where(places < 0, rows, len(self.recipes) + places)

    def _draws_recipes(self) -> bool:
        """Return whether anything of recipes is left out, or replaced, at random."""
        text = self._options.text
        chances = (text.drop_title, text.drop_ingredients, text.drop_instructions, text.drop_items)
        return any(chances) or self._neighbours is not None

    def _new_loader(self, model: Model) -> Loader:
        """Return what reads photos in other processes."""
        options = self._options
        shown = Shown(
            image_input=model.image_input,
            crops=options.model.image.crops,
            views=options.photos.views,
            scale=options.photos.scale,
            per_recipe=options.photos.per_recipe,
        )
        photo_bytes = model.image_input.size**2 * 3
        return Loader(
            lambda buffers: PhotoBatches(
                self._dataset,
                self._positions,
                self.train,
                shown,
                seed=options.trainer.seed,
                buffers=buffers,
            ),
            workers=options.loader.workers,
            device=model.device,
            batch_bytes=options.trainer.batch_size // distributed.world_size() * photo_bytes,
        )

    def _prepare_validation(self, model: Model) -> None:
        """Choose the pairs that are validated on, and cache their photos alone.

        Raises:
            InputError: hardly any of them can be read.
        """
        if self._validation_pixels is not None or not len(self.validation):
            return
        rows = self.validation_sample()
        pixels = cached_pixels(
            self._dataset, self._positions[rows], model.image_input, self._cache,
            photo_counter(self._progress, len(rows)),
        )  # fmt: skip
        for complaint in pixels.complaints:
            self._progress.bad(complaint)
        if not pixels.usable.any():
            raise InputError(f"{self._dataset.name}: hardly any photo can be read")
        self._validation_pixels = rows, pixels
        self.validation = rows[pixels.usable]

    def _read_centres(self, model: Model, rows: Positions) -> Pixels:
        """Return centre crops (B, s, s, 3) of photos that are not cached with all others."""
        if self._validation_pixels is not None:
            among, pixels = self._validation_pixels
            if np.isin(rows, among).all():
                return cached_centres(pixels, np.searchsorted(among, rows), model)
        readings = read_photos(self._dataset, self._positions[rows], model.image_input)
        crops = [pixels for pixels, _ in readings if pixels is not None]
        if not crops:
            raise InputError(f"{self._dataset.name}: hardly any photo can be read")
        return np.concatenate(crops)
