"""Small JPEGs of photos, to be shown beside answers; the model never reads them."""

from __future__ import annotations

import io

from PIL import Image

from .upright import upright

THUMBNAIL_SIDE = 256
"""Pixels of the longer side."""
THUMBNAIL_QUALITY = 80
"""JPEG quality: a dish takes about 10 KB."""


def thumbnail(photo: Image.Image) -> bytes:
    """Return a photo as a small JPEG, upright, without EXIF or any other remark of the camera.

    Args:
        photo: any image of Pillow's.

    Raises:
        InputError: its file is damaged or closed, or it is too large.
    """
    small = upright(photo).copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    small.info = {}  # Pillow would write a file's comment again, which may name a place
    content = io.BytesIO()
    small.save(content, "JPEG", quality=THUMBNAIL_QUALITY)
    return content.getvalue()
