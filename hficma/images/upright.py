"""Turns any image of Pillow's into upright RGB: modes, transparency and EXIF orientation."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from ..errors import HficmaError, InputError
from ..limits import PHOTO_ASPECT, PHOTO_PIXELS
from ..printable import one_line
from ..types import Floats64
from .file_formats import ORIENTATION

log = logging.getLogger("hficma")

_BAND_PIXELS = 4_000_000
"""Pixels that are converted together: conversions of a large photo take several copies of it."""

# EXIF orientations 2 to 8: how to turn an image so that its first row is the top of the scene.
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_loading = threading.Lock()


def _after_fork() -> None:
    """Leave the parent its lock, which another thread may hold."""
    global _loading
    _loading = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def upright(photo: Image.Image, *, name: str = "photo") -> Image.Image:
    """Return an image of Pillow's as upright RGB, as `decode_photo` gives it for its file.

    Args:
        photo: in any mode; turned as its EXIF says.
        name: how to name it in an error.

    Raises:
        InputError: its file is damaged or closed, or it is too large.
    """
    photo = loaded(photo, name=name)
    orientation = orientation_of(photo)
    if photo.mode == "RGB" and orientation == 1 and not photo.has_transparency_data:
        return centre_cut(photo)
    return to_rgb(photo, orientation, name=name)


def to_rgb(image: Image.Image, orientation: int, *, name: str) -> Image.Image:
    """Return an image in RGB, its long side cut to the largest aspect, turned by an EXIF code.

    Args:
        image: in any mode.
        orientation: 1 to 8.
        name: how to name it in an error.

    Raises:
        InputError: it cannot be converted.
    """
    with decoder_errors(name):
        part = centre_cut(image)
        photo = turned(_by_bands(part, _converter(part)), orientation)
    photo.info = {}
    return photo


def centre_cut(image: Image.Image) -> Image.Image:
    """Return an image with its long side cut to at most `PHOTO_ASPECT` times the short one."""
    most = PHOTO_ASPECT * min(image.size)
    # An even number is cut away, half of it on either side: the centre stays where it is.
    width, height = (side if side <= most else most + (side - most) % 2 for side in image.size)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _converter(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return a function that makes RGB of an image, or of any part of it."""
    if image.mode.startswith(("I", "F")):
        # 16-bit scans use the whole range; Pillow's own conversion would clip them to white.
        bright = max(float(_values(band).max()) for band in _bands(image))
        white = 65535.0 if bright > 255 else 255.0
        return lambda band: Image.fromarray(
            (_values(band) * (255.0 / white)).clip(0, 255).astype(np.uint8)
        ).convert("RGB")
    return _over_white if image.has_transparency_data else lambda band: band.convert("RGB")


def _over_white(band: Image.Image) -> Image.Image:
    """Return an image with opacity as it looks on white paper."""
    # Pillow converts grey that is multiplied by its opacity (La) to nothing but LA.
    rgba = (band.convert("LA") if band.mode == "La" else band).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _values(band: Image.Image) -> Floats64:
    return np.nan_to_num(np.asarray(band, dtype=np.float64), posinf=0, neginf=0)


def _by_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert an image a part at a time, so that only its result is as large as itself."""
    if image.width * image.height <= _BAND_PIXELS:
        return convert(image)
    rgb = Image.new("RGB", image.size)
    top = 0
    for band in _bands(image):
        rgb.paste(convert(band), (0, top))
        top += band.height
    return rgb


def _bands(image: Image.Image) -> Iterator[Image.Image]:
    height = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, height):
        yield image.crop((0, top, image.width, min(top + height, image.height)))


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an image that Pillow opened, 1 where it has no usable one.

    Args:
        image: of a file, or made in memory.
    """
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception as error:  # Pillow's reader of a damaged EXIF; the pixels are as good as ever
        log.debug("EXIF cannot be read: %s", error)
        return 1
    return value if isinstance(value, int) and value in _TRANSPOSE else 1


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Return an image upright.

    Args:
        image: as its file stores it.
        orientation: of its EXIF, 1 (upright) to 8.
    """
    method = _TRANSPOSE.get(orientation)
    return image if method is None else image.transpose(method)


def check_size(width: int, height: int, *, name: str) -> None:
    """Refuse an image of more pixels than are decoded, or of none.

    Args:
        width: pixels.
        height: pixels.
        name: how to name it in an error.

    Raises:
        InputError: more than `PHOTO_PIXELS`, or 0.
    """
    if width * height < 1:
        raise InputError(f"{name}: {width} x {height}, it has no pixels")
    if width * height > PHOTO_PIXELS:
        raise InputError(
            f"{name}: {width} x {height} pixels are more than "
            f"{PHOTO_PIXELS // 1_000_000} million; scale it down first"
        )


def loaded(image: Image.Image, *, name: str) -> Image.Image:
    """Load the pixels of an image that a caller opened with Pillow, within the same limits.

    Args:
        image: opened or made.
        name: how to name it in an error.

    Raises:
        InputError: damaged, past the limits, or its file is closed.
    """
    check_size(image.width, image.height, name=name)
    # The same image may be asked about by several threads, and loading it moves in its file.
    with _loading, decoder_errors(name):
        image.load()
    return image


@contextlib.contextmanager
def decoder_errors(name: str, what: str = "image") -> Iterator[None]:
    """Turn whatever a decoder raises in the block into an `InputError` that names the file.

    The one place that catches everything: struct.error, RuntimeError, KeyError, OverflowError,
    MemoryError, NotImplementedError and others have all been seen of files that are merely
    damaged. Only calls of decoders, and of Pillow's conversions, stand inside.

    Args:
        name: how to name the file.
        what: it should be.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, HficmaError) and str(error).startswith(f"{name}: "):
            raise
        detail = one_line(" ".join(str(error).split())[:200]) or type(error).__name__
        raise InputError(
            f"{name}: the {what} is damaged or truncated ({detail}); "
            "copy it again, or save it as JPEG"
        ) from error
