"""How a photo is shown: squares, crops and random views of pixels, windows of regions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from hficma.images import ImageInput, scale_photo
from hficma.images.image_input import CORNER_SCALE
from hficma.images.preprocessing import RESAMPLING
from hficma.types import Floats64, Pixels


def square(photo: Image.Image, image_input: ImageInput) -> Pixels:
    """Return the square in a photo's centre that an encoder's crops are cut from.

    Its own centre is exactly what `hficma.images.preprocess` gives.

    Args:
        photo: upright RGB.
        image_input: of the encoder.

    Returns:
        uint8 (short_side, short_side, 3).
    """
    resized = scale_photo(photo, image_input)
    side = image_input.short_side
    left, top = (_square_start(length, image_input) for length in resized.size)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def square_of_pixels(photo: Pixels, image_input: ImageInput) -> Pixels:
    """Return the same of a photo's pixels (H, W, 3): a part of them where nothing is scaled.

    That is so of stored photos, and spares two copies of a pixel in four bytes.
    """
    side = image_input.short_side
    if min(photo.shape[:2]) != side:
        return square(Image.fromarray(photo), image_input)
    top, left = (_square_start(length, image_input) for length in photo.shape[:2])
    return photo[top : top + side, left : left + side]


def _square_start(length: int, image_input: ImageInput) -> int:
    """Return where a square begins along a scaled photo's side of so many pixels."""
    return (length - image_input.size) // 2 - _margin(image_input)


def _margin(image_input: ImageInput) -> int:
    """Return the pixels from the edge of a square to that of its centre crop."""
    return (image_input.short_side - image_input.size) // 2


def random_view(
    photo: Image.Image, image_input: ImageInput, scale: float, generator: np.random.Generator
) -> Pixels:
    """Return a random part of a photo, mirrored half the time, as uint8 (size, size, 3).

    Args:
        photo: upright RGB.
        image_input: of the encoder.
        scale: least share of the area; the aspect ratio lies within 3:4 and 4:3.
        generator: draws the part.

    Source: the random resized crop of Inception's training (Szegedy et al. 2015, section 6).
    """
    width, height = photo.size
    area = width * height * generator.uniform(scale, 1)
    # Uniform in the logarithm: views wider than high by a factor are as many as the other way.
    ratio = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
    wide = min(width, max(1, round(float(np.sqrt(area * ratio)))))
    high = min(height, max(1, round(float(np.sqrt(area / ratio)))))
    left = int(generator.integers(width - wide + 1))
    top = int(generator.integers(height - high + 1))
    view = photo.resize(
        (image_input.size, image_input.size),
        RESAMPLING[image_input.interpolation],
        box=(left, top, left + wide, top + high),
    )
    if generator.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(view)


def shown_side(image_input: ImageInput, *, crops: int, views: int, scale: float) -> int:
    """Return the pixels of a photo's shorter side from which on no view of it is enlarged.

    Args:
        image_input: of the encoder.
        crops: crops of a photo, see `hficma.images.crops`.
        views: random views beside them.
        scale: least share of a photo's area in one.
    """
    sides = [float(image_input.short_side)]
    if crops > 1:
        sides.append(CORNER_SCALE * image_input.size)
    if views:
        sides.append(image_input.size / math.sqrt(max(scale, 0.01)))
    return math.ceil(max(sides))


def centre_crops(squares: Pixels, image_input: ImageInput) -> Pixels:
    """Return the crop that evaluation shows: (B, short_side, short_side, 3) to (B, s, s, 3).

    Args:
        squares: of B photos, from `square`.
        image_input: of the encoder.
    """
    centre = slice(_margin(image_input), _margin(image_input) + image_input.size)
    return squares[:, centre, centre]


def random_crops(squares: Pixels, side: int, generator: np.random.Generator) -> Pixels:
    """Return the published training crop: a random part of each square, mirrored half the time.

    Args:
        squares: (B, H, H, 3).
        side: height and width of a crop; 224 of 256 as published.
        generator: draws the corners and the mirrors.

    Returns:
        (B, side, side, 3).
    """
    corners = generator.integers(squares.shape[1] - side + 1, size=(len(squares), 2)).tolist()
    mirrors = generator.random(len(squares)) < 0.5
    crops = np.empty((len(squares), side, side, 3), dtype=np.uint8)
    for crop, square_, (top, left), mirror in zip(crops, squares, corners, mirrors, strict=True):
        _write_crop(crop, square_[top : top + side, left : left + side], mirror=bool(mirror))
    return crops


def write_random_crop(crop: Pixels, square: Pixels, draws: Sequence[float]) -> None:
    """Write the published training crop of one photo, as `random_crops`.

    Args:
        crop: (s, s, 3), written to: a photo's place in a batch.
        square: (H, H, 3).
        draws: three of 0 to below 1, alike likely: for the corner's row and column, the mirror.
    """
    side, room = len(crop), len(square) - len(crop) + 1
    top, left, mirror = int(draws[0] * room), int(draws[1] * room), draws[2] < 0.5
    _write_crop(crop, square[top : top + side, left : left + side], mirror=mirror)


def _write_crop(crop: Pixels, part: Pixels, *, mirror: bool) -> None:
    """Copy a part of a photo (s, s, 3), mirrored or not.

    numpy copies a view that runs backwards pixel by pixel: that takes half as long as decoding the
    photo. torch has a kernel for pixels of three bytes.
    """
    crop[:] = part
    if mirror:
        pixels = torch.from_numpy(crop)
        pixels.copy_(pixels.flip(1))


def halved(photos: Pixels) -> Pixels:
    """Return photos (B, H, W, 3) at half their size: means of 2 x 2 pixels."""
    planes = torch.from_numpy(photos).permute(0, 3, 1, 2)
    # At half size, bilinear interpolation is that mean, rounded once a direction; torch has a
    # kernel of it for uint8, where pooling would copy everything to float32 first.
    means = F.interpolate(planes, scale_factor=0.5, mode="bilinear")
    return means.permute(0, 2, 3, 1).contiguous().numpy()


def windows(
    regions: Tensor,
    least: float,
    generator: np.random.Generator,
    corners: Floats64 | None = None,
) -> Tensor:
    """Return a rectangle of each photo's grid of regions: a crop without running the image encoder.

         0   1   2   3      a grid of side 4, and a window 2 high and 3 wide in it;
         4  [5] [6] [7]     in memory its rows stand one after the other, so the
         8  [9][10][11]     window is regions 5 6 7 9 10 11
        12  13  14  15

    Args:
        regions: (B, R, C), R a square's rows one after the other.
        least: least share of the grid's area; the rectangle's size is drawn once for the batch.
        generator: draws size and places.
        corners: (B, 2) of 0 to below 1: the places, where the generator shall draw the size alone.

    Returns:
        (B, R', C), R' = high · wide.
    """
    count, size, _ = regions.shape
    side = round(size**0.5)
    shortest = min(side, max(1, int(np.ceil(side * least**0.5))))
    high, wide = generator.integers(shortest, side + 1, size=2)
    if corners is None:
        top = generator.integers(side - high + 1, size=count)
        left = generator.integers(side - wide + 1, size=count)
    else:
        top, left = (corners * [side - high + 1, side - wide + 1]).astype(np.int64).T
    rows = (top[:, None] + np.arange(high))[:, :, None] * side  # (B, high, 1)
    places = rows + (left[:, None] + np.arange(wide))[:, None, :]  # (B, high, wide)
    index = torch.from_numpy(places.reshape(count, -1, 1)).to(regions.device)
    return regions.gather(1, index.expand(-1, -1, regions.shape[2]))
