"""Photos of a dataset: shrinks them for storage, and reads those that can be read.

A stored photo is a JPEG in upright RGB whose shorter side has at most so many pixels, 256 where an
import was not told otherwise: more than torchvision's classifiers are shown would only be decoded
and thrown away. An image encoder that reads more pixels is shown it enlarged.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from ..errors import InputError
from ..images import decode_photo, resize_short_side
from ..images.file_formats import image_format, read_jpeg_header
from ..limits import ENOUGH_PIXELS
from ..types import Pixels
from .layout import STORED_SIDE

if TYPE_CHECKING:
    from PIL.Image import Image

    from .dataset import Dataset

QUALITY = 92
"""JPEG quality of stored photos."""
log = logging.getLogger("hficma")


@runtime_checkable
class ReducedPhotos(Protocol):
    """A dataset that decodes a photo at a reduced size, which takes less time."""

    def reduced_photo(self, index: int, side: int) -> Image:
        """Return the photo at a position, its shorter side at least `side` pixels if it has them.

        Raises:
            InputError: as `Dataset.photo`.
        """


@runtime_checkable
class ShrunkPhotos(Protocol):
    """A dataset whose photos were made smaller when they came in."""

    @property
    def photo_side(self) -> int | None:
        """Return the pixels of a photo's shorter side, at most; None where photos are whole."""


def photo_side(dataset: Dataset) -> int | None:
    """Return the pixels that a dataset's photos were shrunk to; None where they are whole."""
    return dataset.photo_side if isinstance(dataset, ShrunkPhotos) else None


def reduced_photo(dataset: Dataset, index: int, side: int) -> Image:
    """Return a photo at a reduced size where its dataset can decode it so, else whole.

    Args:
        dataset: holds the photo.
        index: the recipe's position.
        side: pixels of the shorter side that are enough.

    Raises:
        InputError: as `Dataset.photo`.
    """
    if isinstance(dataset, ReducedPhotos):
        return dataset.reduced_photo(index, side)
    return dataset.photo(index)


@runtime_checkable
class NumberedPhotos(Protocol):
    """A dataset that gives photos as pixels, by number where a recipe has several."""

    def photo_count(self, index: int) -> int:
        """Return how many photos the recipe at a position has."""

    def photo_pixels(self, index: int, side: int, number: int = 0) -> Pixels:
        """Return a photo as `photo_pixels` does, of a number below the count.

        Raises:
            InputError: as `Dataset.photo`.
        """


def photo_count(dataset: Dataset, index: int) -> int:
    """Return how many photos a dataset holds of a recipe that has one; one, if it cannot tell."""
    return dataset.photo_count(index) if isinstance(dataset, NumberedPhotos) else 1


def photo_pixels(dataset: Dataset, index: int, side: int, number: int = 0) -> Pixels:
    """Return a photo as `reduced_photo` does, as pixels.

    Args:
        dataset: holds the photo.
        index: the recipe's position.
        side: pixels of the shorter side that are enough.
        number: which of the recipe's photos, below `photo_count`.

    Returns:
        upright RGB, uint8 (H, W, 3).

    Raises:
        InputError: as `Dataset.photo`.
    """
    if isinstance(dataset, NumberedPhotos):
        return dataset.photo_pixels(index, side, number)
    assert number == 0
    return np.array(reduced_photo(dataset, index, side))


def readable_photos(
    dataset: Dataset,
    positions: Iterable[int],
    *,
    most: int | None = None,
    side: int = ENOUGH_PIXELS,
) -> Iterator[tuple[int, Image]]:
    """Yield positions with their photos, in order; one that cannot be read is logged, not raised.

    Args:
        dataset: holds the photos.
        positions: of the recipes.
        most: the number of photos after which to stop; None reads all.
        side: see `reduced_photo`.

    Raises:
        InputError: none of the positions has a photo that can be read.
    """
    first_complaint: InputError | None = None

    def readable() -> Iterator[tuple[int, Image]]:
        nonlocal first_complaint
        for position in positions:
            try:
                yield int(position), reduced_photo(dataset, int(position), side)
            except InputError as error:
                log.warning("left out: %s", error)
                first_complaint = first_complaint or error

    count = 0
    for photo in islice(readable(), most):
        count += 1
        yield photo
    if not count and first_complaint is not None:
        raise InputError(f"{dataset.name}: no photo can be read; the first: {first_complaint}")


def shrink_photo(content: bytes, *, name: str, side: int = STORED_SIDE) -> bytes:
    """Return a photo file small enough to store, or the same file where it is small already.

    A JPEG that is upright RGB and small already keeps its bytes: encoding it again would only
    lose. The photo is decoded either way, so a damaged one is found now and not in training.

    Args:
        content: the file's bytes, of any kind of image.
        name: how to name the photo in an error.
        side: pixels of the shorter side, at most.

    Returns:
        the bytes of a JPEG in upright RGB.

    Raises:
        InputError: it is no image that can be read.
    """
    photo = decode_photo(content, name=name, enough=max(side, ENOUGH_PIXELS))
    if _fits(content, name=name, side=side):
        return content
    if min(photo.size) > side:
        photo = resize_short_side(photo, side)
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _fits(content: bytes, *, name: str, side: int) -> bool:
    """Return whether a file is stored as it is: a small upright JPEG in colour."""
    if image_format(content) != "JPEG":
        return False
    header = read_jpeg_header(content, name=name)
    return (
        header.components == 3
        and min(header.width, header.height) <= side
        and header.orientation == 1
    )
