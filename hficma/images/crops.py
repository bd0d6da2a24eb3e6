"""Several crops of a photo at inference, whose global vectors are averaged.

A dish may fill its photo or stand small beside a glass. An average over the centre and the four
corners of the photo scaled larger depends less on where it was cut:

    1   the centre, as an image encoder reads it        5   that, and the corners of the photo
                                                            scaled 1.27 times as large

They help most where training showed them too, and cost five runs of the image encoder a photo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..types import Floats, Pixels
from .image_input import CORNER_SCALE, ImageInput
from .preprocessing import RESAMPLING, preprocess, resize_short_side
from .upright import upright

if TYPE_CHECKING:
    from PIL import Image

COUNTS = (1, 5)
"""How many crops there can be."""


def crops_into(photo: Image.Image, image_input: ImageInput, out: Pixels) -> Pixels:
    """Write a photo's crops to where they belong in a batch.

    Args:
        photo: as of `crops`.
        image_input: of the encoder.
        out: uint8 (size, size, 3) for the centre alone, or (count, size, size, 3).

    Returns:
        `out`.
    """
    pixels = crops(photo, image_input, 1 if out.ndim == 3 else len(out))
    out[...] = pixels if out.ndim == 4 else pixels[0]
    return out


def crops(photo: Image.Image, image_input: ImageInput, count: int) -> Pixels:
    """Return crops of a photo, the centre first.

    Args:
        photo: any image of Pillow's; turned as its EXIF says.
        image_input: of the encoder.
        count: of `COUNTS`.

    Returns:
        uint8 (count, size, size, 3).
    """
    centre = preprocess(photo, image_input)
    if count == 1:
        return centre[None]
    size = image_input.size
    larger = resize_short_side(
        upright(photo),
        round(CORNER_SCALE * size),
        resampling=RESAMPLING[image_input.interpolation],
        truncate=image_input.longer_side == "truncate",
    )
    pixels = np.asarray(larger, dtype=np.uint8)
    corners = [
        pixels[rows, columns]
        for rows in (slice(size), slice(-size, None))
        for columns in (slice(size), slice(-size, None))
    ]
    return np.stack([centre, *corners])


def check_crops(count: int) -> None:
    """Refuse a number of crops that there cannot be.

    Raises:
        InputError: it is none of `COUNTS`.
    """
    if count not in COUNTS:
        raise InputError(f"{count} crops: there can be {' or '.join(map(str, COUNTS))}")


def mean_over_crops(vectors: Floats, *, unit: bool, members: int = 1) -> Floats:
    """Average the global vectors of photos' crops.

    Args:
        vectors: (N, V, D_g).
        unit: bring the means to length 1, as the vectors of a model that compares by cosine are.
        members: parts of a vector that are brought to one length each: an ensemble's members.

    Returns:
        (N, D_g).
    """
    means = vectors.mean(axis=1)
    if unit:
        parts = means.reshape(len(means), members, -1)
        lengths = np.linalg.norm(parts, axis=2, keepdims=True) * np.sqrt(np.float32(members))
        means = (parts / np.maximum(lengths, 1e-12)).reshape(means.shape)
    averaged: Floats = means.astype(np.float32, copy=False)
    return averaged
