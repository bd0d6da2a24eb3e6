"""A photo as a dataset keeps it: JPEG bytes, upright RGB, shorter side at most 256."""

from __future__ import annotations

import io

from PIL import Image

from hficma.images import SHORT_SIDE, decode_photo, resize_short_side

QUALITY = 92


def shrink_photo(content: bytes, *, name: str) -> bytes:
    """Make a photo file small enough to keep, or keep it as it is.

    A JPEG that is upright RGB and small already keeps its bytes: encoding it again would only
    lose. The photo is decoded either way, so a damaged one is found now and not in training.

    Args:
        content: the file's bytes, of any kind of image.
        name: how to name the photo in an error.

    Raises:
        InputError: it is no image that can be read.
    """
    photo = decode_photo(content, name=name)
    if _fits(content):
        return content
    if min(photo.size) > SHORT_SIDE:
        photo = resize_short_side(photo, SHORT_SIDE)
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _fits(content: bytes) -> bool:
    with Image.open(io.BytesIO(content)) as header:
        return (
            header.format == "JPEG"
            and header.mode == "RGB"
            and min(header.size) <= SHORT_SIDE
            and header.getexif().get(0x0112) in (None, 1)
        )
