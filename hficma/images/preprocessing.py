"""Read a photo from wherever it comes and preprocess it: one way, for training and serving.

Whatever takes a photo takes it from here: files (`read_photo`), bytes (`decode_photo`), and
anything that a program holds (`load_photo`). All give the same upright RGB for the same photo, or
raise an `InputError` of one line that names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import InputError
from ..limits import PHOTO_ASPECT, PHOTO_BYTES, printable_path, read_regular_file, reason
from .decoding import decode_image, decoder_errors, loaded, orientation_of, turned

SHORT_SIDE = 256
CROP = 224

Pixels = npt.NDArray[np.uint8]
PhotoSource: TypeAlias = (
    Image.Image
    | npt.NDArray[Any]
    | str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | IO[bytes]
)
"""What `load_photo` takes."""

_BAND_PIXELS = 4_000_000
"""Pixels converted together: conversions of a large photo take several copies of it."""


def read_photo(path: str | os.PathLike[str]) -> Image.Image:
    """Read a photo file as upright RGB.

    Raises:
        InputError: missing, no regular file, empty, truncated, too large, or no image.
    """
    return decode_photo(read_photo_file(path), name=printable_path(path))


def read_photo_file(path: str | os.PathLike[str]) -> bytes:
    """Read the bytes of a photo file.

    Raises:
        InputError: missing, no regular file (a directory, a pipe, a device), or too long.
    """
    return read_regular_file(path, limit=PHOTO_BYTES, what="an image file")


def decode_photo(content: bytes, *, name: str) -> Image.Image:
    """Decode the bytes of a JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP, TIFF, ... as upright RGB.

    CMYK, 16-bit, palette and transparent images (over white) are converted, and EXIF rotation is
    applied. Colour profiles are ignored, as they were for the photos that the published models
    learned from. JPEG and HEIC are decoded at a reduced size of at least 512 pixels; of photos
    longer than 16 times their width the centre is kept.

    Args:
        content: the file's bytes.
        name: how to name the photo in an error.

    Raises:
        InputError: empty, truncated, too large, or no image.
    """
    if not content:
        raise InputError(f"{name}: the file is empty")
    if len(content) > PHOTO_BYTES:
        raise InputError(f"{name}: has {len(content):,} bytes; a photo may have {PHOTO_BYTES:,}")
    return _upright(*decode_image(content, name=name), name=name)


def load_photo(source: PhotoSource, *, name: str = "photo") -> Image.Image:
    """Return a photo as upright RGB, from whatever holds it.

    Args:
        source: the path of a file; a file's bytes; an open binary file, read from its start; an
            image opened or made with Pillow, in any mode, turned as its EXIF says; or an array
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, or of floats from 0 to 1.
        name: how to name it in an error, where it has no name of its own.

    Raises:
        InputError: it is none of these, or no image that can be read.
    """
    if isinstance(source, (str, os.PathLike)):
        return read_photo(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decode_photo(bytes(source), name=name)
    if isinstance(source, Image.Image):
        return upright(source, name=name)
    if isinstance(source, np.ndarray):
        return _from_array(source, name=name)
    if callable(getattr(source, "read", None)):
        return _from_file(source, name=name)
    raise InputError(
        f"{name}: is {_a(type(source).__name__)}; give a path, bytes, an open file, a PIL image or "
        "an array (H, W, 3)"
    )


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
        return _centre(photo)
    return _upright(photo, orientation, name=name)


def preprocess(photo: Image.Image) -> Pixels:
    """Shorter side to 256, centre crop of 224.

    Args:
        photo: of `read_photo` and the others above, or any other image of Pillow's.

    Returns:
        uint8 (224, 224, 3); normalisation is the network's first layer.
    """
    resized = resize_short_side(upright(photo), SHORT_SIDE)
    left = (resized.width - CROP) // 2
    top = (resized.height - CROP) // 2
    return np.asarray(resized.crop((left, top, left + CROP, top + CROP)), dtype=np.uint8)


def resize_short_side(photo: Image.Image, side: int) -> Image.Image:
    """Scale so that the shorter side is `side` pixels (bilinear, antialiased).

    The longer one gets at most 16 times as many, whatever the photo's shape: see `PHOTO_ASPECT`.
    """
    photo = _centre(photo)
    scale = side / min(photo.size)
    width, height = (max(side, round(length * scale)) for length in photo.size)
    if (width, height) == photo.size:
        return photo
    return photo.resize((width, height), Image.Resampling.BILINEAR)


def _from_file(file: IO[bytes], *, name: str) -> Image.Image:
    own_name = getattr(file, "name", None)
    name = printable_path(os.fsdecode(own_name)) if isinstance(own_name, (str, bytes)) else name
    try:
        if hasattr(file, "seekable") and file.seekable():
            file.seek(0)  # as Pillow does: who looked at the header need not rewind
        content = file.read(PHOTO_BYTES + 1)
    except Exception as error:  # the caller's own class, which may raise anything
        raise InputError(f"{name}: cannot be read ({reason(error)})") from error
    if not isinstance(content, bytes):
        raise InputError(
            f"{name}: gives {type(content).__name__}, not bytes; open it in binary mode"
        )
    return decode_photo(content, name=name)


def _from_array(array: npt.NDArray[Any], *, name: str) -> Image.Image:
    shape = " x ".join(map(str, array.shape)) or "no dimension"
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        raise InputError(
            f"{name}: is an array of {shape}, channels first; give (H, W, 3), as of "
            "array.transpose(1, 2, 0)"
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise InputError(f"{name}: is an array of {shape}; give (H, W), (H, W, 3) or (H, W, 4)")
    if not array.size:
        raise InputError(f"{name}: is an array of {shape}; it has no pixels")
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not 0 <= low <= high <= 1:  # false for NaN too
            raise InputError(
                f"{name}: floats reach from {low:g} to {high:g}; give 0 to 1, or uint8 of 0 to 255"
            )
        array = np.rint(array * np.float32(255)).astype(np.uint8)
    if array.dtype != np.uint8:
        raise InputError(
            f"{name}: is an array of {array.dtype}; give uint8 of 0 to 255, or floats of 0 to 1"
        )
    channels = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    # A copy: what the caller does with the array afterwards must not change the photo.
    return upright(Image.fromarray(np.array(channels, order="C")), name=name)


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def _upright(image: Image.Image, orientation: int, *, name: str) -> Image.Image:
    with decoder_errors(name):
        part = _centre(image)
        photo = turned(_by_bands(part, _converter(part)), orientation)
    photo.info = {}
    return photo


def _centre(image: Image.Image) -> Image.Image:
    """Cut the long side to so many times the short one."""
    most = PHOTO_ASPECT * min(image.size)
    # An even number is cut away, half of it on either side: the centre stays where it is.
    width, height = (side if side <= most else most + (side - most) % 2 for side in image.size)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _converter(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """What makes RGB of an image, or of any part of it."""
    if image.mode.startswith(("I", "F")):
        # 16-bit scans use the whole range; Pillow's own conversion would clip them to white.
        bright = max(float(_values(band).max()) for band in _bands(image))
        white = 65535.0 if bright > 255 else 255.0
        return lambda band: Image.fromarray(
            (_values(band) * (255.0 / white)).clip(0, 255).astype(np.uint8)
        ).convert("RGB")
    return _over_white if image.has_transparency_data else lambda band: band.convert("RGB")


def _over_white(band: Image.Image) -> Image.Image:
    rgba = band.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _values(band: Image.Image) -> npt.NDArray[np.float64]:
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
