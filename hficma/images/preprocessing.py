"""Reads a photo from wherever it comes and preprocesses it: one way, for training and serving.

A difference between the two ways (another scaling, EXIF ignored) costs recall and shows nowhere.

Whatever takes a photo takes it from here: files (`read_photo`), bytes (`decode_photo`), and
anything that a program holds (`load_photo`). All give the same upright RGB for the same photo, or
raise an `InputError` of one line that names it.
"""

from __future__ import annotations

import os
from typing import IO, TypeAlias

import numpy as np
from PIL import Image

from ..errors import InputError
from ..limits import ENOUGH_PIXELS, PHOTO_BYTES, printable_path, read_regular_file, reason
from ..types import Array, Pixels
from .decoding import decode_image, decode_plain_jpeg
from .image_input import ImageInput
from .upright import centre_cut, to_rgb, upright

RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Pillow's name of each `ImageInput.interpolation`; its filters widen where a photo shrinks."""

PhotoSource: TypeAlias = (
    Image.Image | Array | str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
)
"""The sources of a photo that `load_photo` takes."""


def read_photo(path: str | os.PathLike[str], *, enough: int = ENOUGH_PIXELS) -> Image.Image:
    """Read a photo file as upright RGB.

    Args:
        path: of the file.
        enough: see `decode_photo`.

    Raises:
        InputError: missing, no regular file, empty, truncated, too large, or no image.
    """
    return decode_photo(read_photo_file(path), name=printable_path(path), enough=enough)


def read_photo_file(path: str | os.PathLike[str]) -> bytes:
    """Read the bytes of a photo file.

    Args:
        path: of the file.

    Raises:
        InputError: missing, no regular file (a directory, a pipe, a device), or too long.
    """
    return read_regular_file(path, limit=PHOTO_BYTES, what="an image file")


def decode_photo(content: bytes, *, name: str, enough: int = ENOUGH_PIXELS) -> Image.Image:
    """Decode the bytes of a JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP, TIFF, ... as upright RGB.

    CMYK, 16-bit, palette and transparent images (over white) are converted, and EXIF rotation is
    applied. Colour profiles are ignored, as they were for the photos that the published models
    learned from. Large JPEG and HEIC are decoded at a reduced size; of photos longer than 16 times
    their width the centre is kept.

    Args:
        content: the file's bytes.
        name: how to name the photo in an error.
        enough: pixels of the shorter side that a JPEG keeps at least, where it has them; an image
            encoder's are its `ImageInput.least_side`.

    Raises:
        InputError: empty, truncated, too large, or no image.
    """
    _check_length(content, name)
    return to_rgb(*decode_image(content, name=name, enough=enough), name=name)


def decode_pixels(content: bytes, *, name: str, enough: int = ENOUGH_PIXELS) -> Pixels:
    """Decode the bytes of a photo as `decode_photo` does, to uint8 (H, W, 3).

    Of a stored photo, where no image of Pillow's is made, it takes 0.8 of the time.

    Args:
        content: see `decode_photo`, as for those that follow.
        name: likewise.
        enough: likewise.

    Raises:
        InputError: likewise.
    """
    _check_length(content, name)
    pixels = decode_plain_jpeg(content, name=name, enough=enough)
    if pixels is None:
        return np.array(decode_photo(content, name=name, enough=enough))
    return pixels


def _check_length(content: bytes, name: str) -> None:
    """Refuse a file of no bytes, or too many.

    Raises:
        InputError: it has.
    """
    if not content:
        raise InputError(f"{name}: the file is empty")
    if len(content) > PHOTO_BYTES:
        raise InputError(f"{name}: has {len(content):,} bytes; a photo may have {PHOTO_BYTES:,}")


def load_photo(
    source: PhotoSource, *, name: str = "photo", enough: int = ENOUGH_PIXELS
) -> Image.Image:
    """Return a photo as upright RGB, from whatever holds it.

    Args:
        source: the path of a file; a file's bytes; an open binary file, read from its start; an
            image opened or made with Pillow, in any mode, turned as its EXIF says; or an array
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, or of floats from 0 to 1.
        name: how to name it in an error, where it has no name of its own.
        enough: see `decode_photo`; files and bytes alone are decoded here.

    Raises:
        InputError: it is none of these, or no image that can be read.
    """
    if isinstance(source, (str, os.PathLike)):
        return read_photo(source, enough=enough)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decode_photo(bytes(source), name=name, enough=enough)
    if isinstance(source, Image.Image):
        return upright(source, name=name)
    if isinstance(source, np.ndarray):
        return _from_array(source, name=name)
    if callable(getattr(source, "read", None)):
        return _from_file(source, name=name, enough=enough)
    raise InputError(
        f"{name}: is {_a(type(source).__name__)}; give a path, bytes, an open file, a PIL image or "
        "an array (H, W, 3)"
    )


def preprocess(photo: Image.Image, image_input: ImageInput) -> Pixels:
    """Return a photo as an image encoder reads it: scaled, its centre cut out.

    Args:
        photo: any image of Pillow's; turned as its EXIF says.
        image_input: of the encoder.

    Returns:
        uint8 (size, size, 3); normalisation is the network's first layer.
    """
    size = image_input.size
    resized = scale_photo(upright(photo), image_input)
    left = (resized.width - size) // 2
    top = (resized.height - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)), dtype=np.uint8)


def scale_photo(photo: Image.Image, image_input: ImageInput) -> Image.Image:
    """Scale a photo to what the centre of an encoder's input is cut out of.

    Args:
        photo: upright RGB.
        image_input: of the encoder; its `short_side` is the shorter side of what is returned, or
            both sides where the photo's shape is not kept.
    """
    side = image_input.short_side
    resampling = RESAMPLING[image_input.interpolation]
    if image_input.resize == "squash":
        photo = centre_cut(photo)
        return photo if photo.size == (side, side) else photo.resize((side, side), resampling)
    truncate = image_input.longer_side == "truncate"
    return resize_short_side(photo, side, resampling=resampling, truncate=truncate)


def resize_short_side(
    photo: Image.Image,
    side: int,
    *,
    resampling: Image.Resampling = Image.Resampling.BILINEAR,
    truncate: bool = False,
) -> Image.Image:
    """Scale so that the shorter side is `side` pixels.

    The longer one gets at most 16 times as many, whatever the photo's shape: see `PHOTO_ASPECT`.

    Args:
        photo: in RGB.
        side: pixels.
        resampling: how pixels are interpolated, antialiased.
        truncate: cut the fraction of the longer side's pixels off, rather than rounding it.
    """
    photo = centre_cut(photo)
    shortest = min(photo.size)
    # Whole numbers when truncated: a quotient just below one would lose a pixel.
    width, height = (
        max(side, side * length // shortest if truncate else round(length * (side / shortest)))
        for length in photo.size
    )
    if (width, height) == photo.size:
        return photo
    return photo.resize((width, height), resampling)


def _from_file(file: IO[bytes], *, name: str, enough: int) -> Image.Image:
    """Return the photo in an open file; see `load_photo`."""
    file_name = getattr(file, "name", None)
    name = printable_path(os.fsdecode(file_name)) if isinstance(file_name, (str, bytes)) else name
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
    return decode_photo(content, name=name, enough=enough)


def _from_array(array: Array, *, name: str) -> Image.Image:
    """Return an array as a photo; see `load_photo`."""
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
