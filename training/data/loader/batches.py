"""Reads and crops the photos of one batch: what a worker process does.

What is shown of a pair is a function of the run's seed, the epoch and the pair. So it is the same
whichever worker reads it, however many workers and training processes there are, whatever batch it
falls in, and in a run that goes on from the middle of an epoch.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hficma.data.dataset import Dataset
from hficma.data.photos import reduced_photo
from hficma.errors import HficmaError, InputError
from hficma.images import ImageInput
from hficma.images.crops import crops as photo_crops
from hficma.types import Pixels, Positions

from ..photo_views import random_crops, random_view, square

REPLACEMENTS = 20
"""Photos tried in place of one that cannot be read. Where as many fail one after the other, it is
not a photo that is damaged but the disk that is gone."""
PHOTO, RECIPE, REPLACEMENT, WINDOW = range(4)
"""What is drawn at random for a pair (a window: for a batch); each has a generator of its own."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What training sees of a photo."""

    image_input: ImageInput
    """Of the image encoder."""
    crops: int = 1
    """Where it is frozen: crops of a photo, see `hficma.images.crops` ..."""
    views: int = 0
    """... and random views, of which each photo shows one, all alike likely."""
    scale: float = 1.0
    """Least share of a photo's area in a random view."""


class Request(NamedTuple):
    """A batch to be read."""

    epoch: int
    """From 1."""
    rows: Positions
    """Pairs (B,)."""
    square: bool
    """Show the published crop, a random part of the square in a photo's centre, to an image encoder
    that is trained; else one of the crops and views of `Shown`."""
    small: bool
    """Show photos at half their size."""


class PhotoBatch(NamedTuple):
    """The photos of a batch."""

    rows: Positions
    """Pairs (B,): those of the request, or others in place of those whose photos are damaged."""
    pixels: Tensor
    """(B, s, s, 3) uint8."""
    complaints: tuple[tuple[int, str], ...]
    """Each row whose photo could not be read, and why."""
    error: str | None = None
    """Why there is no batch. An error that a worker raised would come with its traceback."""


class PhotoBatches(torch.utils.data.Dataset[PhotoBatch]):
    """Batches by request, for torch's `DataLoader`; it can be sent to another process.

    Args:
        dataset: holds the photos.
        positions: (P,) of the pairs, by row.
        train: rows that may stand in for one whose photo cannot be read.
        shown: what is made of a photo.
        seed: of the run.
        buffers: batches that each worker writes to in turn, in memory that it shares. The first
            is written again after as many others: whoever reads batches must be done with it then,
            or have copied it. New memory for each batch would take as long as half the decoding.
        buffer_bytes: of each.
    """

    def __init__(
        self,
        dataset: Dataset,
        positions: Positions,
        train: Positions,
        shown: Shown,
        *,
        seed: int,
        buffers: int = 0,
        buffer_bytes: int = 0,
    ) -> None:
        self._dataset, self._positions, self._train = dataset, positions, train
        self._shown, self._seed = shown, seed
        self._buffers, self._buffer_bytes = buffers, buffer_bytes
        self._shared: deque[Tensor] = deque()

    def __getitem__(self, request: Request) -> PhotoBatch:
        """Read the photos of a batch."""
        try:
            return self._batch(request)
        except HficmaError as error:
            return PhotoBatch(request.rows, torch.empty(0), (), str(error))

    def _batch(self, request: Request) -> PhotoBatch:
        """Read the photos of a batch.

        Raises:
            InputError: a photo cannot be read, nor any of those tried in its place.
        """
        complaints: list[tuple[int, str]] = []
        rows = request.rows.copy()
        size = self._shown.image_input.size // (2 if request.square and request.small else 1)
        pixels = self._empty((len(rows), size, size, 3))
        written = pixels.numpy()
        for place, first in enumerate(request.rows.tolist()):
            for row in chain([first], self._others(request.epoch, first, rows)):
                try:
                    written[place] = self._pixels(row, request)
                except InputError as error:
                    complaints.append((row, str(error)))
                else:
                    rows[place] = row
                    break
            else:
                _, last = complaints[-1]
                raise InputError(f"{self._dataset.name}: photos cannot be read; {last}")
        return PhotoBatch(rows, pixels, tuple(complaints))

    def _empty(self, shape: tuple[int, ...]) -> Tensor:
        """Return room for a batch: in a worker the next buffer, if the batch fits into it."""
        count = math.prod(shape)
        if torch.utils.data.get_worker_info() is None or count > self._buffer_bytes:
            return torch.empty(shape, dtype=torch.uint8)
        if len(self._shared) < self._buffers:
            self._shared.append(torch.empty(self._buffer_bytes, dtype=torch.uint8).share_memory_())
        else:
            self._shared.rotate(-1)
        return self._shared[-1][:count].view(shape)

    def _others(self, epoch: int, row: int, batch: Positions) -> Iterator[int]:
        """Yield rows that may stand in for one of a batch, so that the batch keeps its size."""
        generator = pair_generator(self._seed, epoch, row, REPLACEMENT)
        # Twice in a batch, a pair would be the wrong answer to its own photo; so the batch's own
        # come last, for a dataset that has no others.
        others = self._train[~np.isin(self._train, batch)]
        for candidates in (others, batch):
            for _ in range(REPLACEMENTS if len(candidates) else 0):
                yield int(generator.choice(candidates))

    def _pixels(self, row: int, request: Request) -> Pixels:
        """Return what is shown of a pair's photo, (s, s, 3)."""
        generator = pair_generator(self._seed, request.epoch, row, PHOTO)
        position, shown = int(self._positions[row]), self._shown
        image_input = shown.image_input
        if request.square:
            if request.small:
                size, side = image_input.size // 2, image_input.short_side // 2
                image_input = replace(image_input, size=size, short_side=side)
                # The decoder's own reduced size: means of 2 x 2 pixels, without decoding them all.
                photo = reduced_photo(self._dataset, position, side)
            else:
                photo = reduced_photo(self._dataset, position, image_input.least_side)
            crop: Pixels = random_crops(
                square(photo, image_input)[None], image_input.size, generator
            )[0]
            return crop
        photo = reduced_photo(self._dataset, position, image_input.least_side)
        view = int(generator.integers(shown.crops + shown.views))
        if view >= shown.crops:
            return random_view(photo, image_input, shown.scale, generator)
        # Corners are cut out of a larger scaling, which the centre alone spares.
        one: Pixels = photo_crops(photo, image_input, shown.crops if view else 1)[view]
        return one


def pair_generator(seed: int, epoch: int, row: int, purpose: int) -> np.random.Generator:
    """Return a generator for one purpose of one pair in an epoch; see this module."""
    return np.random.default_rng([seed, epoch, row, purpose])
