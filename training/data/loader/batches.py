"""Reads and crops the photos of one batch: what a worker process does.

What is shown of a pair is a function of the run's seed, the epoch and the pair. So it is the same
whichever worker reads it, however many workers and training processes there are, whatever batch it
falls in, and in a run that goes on from the middle of an epoch.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hficma.data.dataset import Dataset
from hficma.data.photos import photo_count, photo_pixels
from hficma.errors import HficmaError, InputError
from hficma.images import ImageInput
from hficma.images.crops import crops as photo_crops
from hficma.types import Pixels, Positions

from ..photo_views import centre_crops, random_view, square_of_pixels, write_random_crop

REPLACEMENTS = 20
"""Photos tried in place of one that cannot be read. Where as many fail one after the other, it is
not a photo that is damaged but the disk that is gone."""
PHOTO, RECIPE, REPLACEMENT, WINDOW, WINDOW_PLACE, PHOTO_NUMBER = range(6)
"""What is drawn at random for a pair (a window's size: for a batch), each independently."""

_FOUR = struct.Struct("<4Q")
"""Four numbers of 64 bits."""


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
    per_recipe: int = 1
    """Photos of a recipe that are shown in turns, drawn at random."""


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


class Place(NamedTuple):
    """Where a worker wrote the pixels of a batch."""

    worker: int
    """Its number ..."""
    buffer: int
    """... and that of the buffer among its own."""
    shape: tuple[int, ...]
    """Of the pixels, which are the first bytes there."""


class PhotoBatch(NamedTuple):
    """The photos of a batch."""

    rows: Positions
    """Pairs (B,): those of the request, or others in place of those whose photos are damaged."""
    pixels: Tensor | Place
    """(B, s, s, 3) uint8; from a worker where they are, which the loader looks up."""
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
        buffers: (workers, N, bytes) uint8 in shared memory: each worker writes its batches to its
            N buffers in turn. The first is written again after as many others: whoever reads
            batches must be done with it then, or have copied it. None: new memory for each batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        positions: Positions,
        train: Positions,
        shown: Shown,
        *,
        seed: int,
        buffers: Tensor | None = None,
    ) -> None:
        self._dataset, self._positions, self._train = dataset, positions, train
        self._shown, self._seed = shown, seed
        self._buffers, self._written = buffers, 0

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
        pixels, place = self._room((len(rows), size, size, 3))
        written = pixels.numpy()
        for number, first in enumerate(request.rows.tolist()):
            for row in chain([first], self._others(request.epoch, first, rows)):
                try:
                    self._show(row, request, written[number])
                except InputError as error:
                    complaints.append((row, str(error)))
                else:
                    rows[number] = row
                    break
            else:
                _, last = complaints[-1]
                raise InputError(f"{self._dataset.name}: photos cannot be read; {last}")
        return PhotoBatch(rows, place or pixels, tuple(complaints))

    def _room(self, shape: tuple[int, ...]) -> tuple[Tensor, Place | None]:
        """Return room for a batch: in a worker the next buffer, if the batch fits into it."""
        worker, count = torch.utils.data.get_worker_info(), math.prod(shape)
        if worker is None or self._buffers is None or count > self._buffers.shape[2]:
            return torch.empty(shape, dtype=torch.uint8), None
        buffer = self._written % self._buffers.shape[1]
        self._written += 1
        return self._buffers[worker.id, buffer, :count].view(shape), Place(worker.id, buffer, shape)

    def _others(self, epoch: int, row: int, batch: Positions) -> Iterator[int]:
        """Yield rows that may stand in for one of a batch, so that the batch keeps its size."""
        generator = pair_generator(self._seed, epoch, row, REPLACEMENT)
        # Twice in a batch, a pair would be the wrong answer to its own photo; so the batch's own
        # come last, for a dataset that has no others.
        others = self._train[~np.isin(self._train, batch)]
        for candidates in (others, batch):
            for _ in range(REPLACEMENTS if len(candidates) else 0):
                yield int(generator.choice(candidates))

    def _show(self, row: int, request: Request, pixels: Pixels) -> None:
        """Write what is shown of a pair's photo to a place of the batch, (s, s, 3)."""
        of_pair = self._seed, request.epoch, row, PHOTO
        position, shown = int(self._positions[row]), self._shown
        image_input, least = shown.image_input, shown.image_input.least_side
        if request.square and request.small:
            # The decoder's own reduced size: means of 2 x 2 pixels, without decoding them all.
            least = image_input.short_side // 2
            image_input = replace(image_input, size=image_input.size // 2, short_side=least)
        photo = photo_pixels(self._dataset, position, least, self._photo_number(row, request.epoch))
        if request.square:
            write_random_crop(pixels, square_of_pixels(photo, image_input), pair_draws(*of_pair))
            return
        generator = pair_generator(*of_pair)
        view = int(generator.integers(shown.crops + shown.views))
        if view == 0:
            pixels[:] = centre_crops(square_of_pixels(photo, image_input)[None], image_input)[0]
        elif view < shown.crops:
            pixels[:] = photo_crops(Image.fromarray(photo), image_input, shown.crops)[view]
        else:
            pixels[:] = random_view(Image.fromarray(photo), image_input, shown.scale, generator)

    def _photo_number(self, row: int, epoch: int) -> int:
        """Return which of a pair's photos an epoch shows."""
        if self._shown.per_recipe == 1:
            return 0
        count = min(self._shown.per_recipe, photo_count(self._dataset, int(self._positions[row])))
        return int(pair_draws(self._seed, epoch, row, PHOTO_NUMBER)[0] * count)


def pair_generator(seed: int, epoch: int, row: int, purpose: int) -> np.random.Generator:
    """Return a generator for one purpose of one pair in an epoch; see this module."""
    return np.random.default_rng([seed, epoch, row, purpose])


def pair_draws(seed: int, epoch: int, row: int, purpose: int) -> tuple[float, ...]:
    """Return four numbers from 0 to below 1, alike likely, where a generator would take too long.

    They are a hash of what they are for: seeding a generator takes a thirtieth of the time of
    decoding a photo, and a hash a tenth of that.
    """
    name = f"{seed} {epoch} {row} {purpose}".encode()
    numbers = _FOUR.unpack(hashlib.blake2b(name, digest_size=_FOUR.size).digest())
    # The first 53 bits of each: what a float holds.
    return tuple((number >> 11) / 2**53 for number in numbers)
