"""Photos from wherever they come, decoded and preprocessed one way for training and serving."""

from .preprocessing import (
    CROP,
    SHORT_SIDE,
    PhotoSource,
    decode_photo,
    load_photo,
    preprocess,
    read_photo,
    read_photo_file,
    resize_short_side,
)
from .upright import upright

__all__ = [
    "CROP",
    "SHORT_SIDE",
    "PhotoSource",
    "decode_photo",
    "load_photo",
    "preprocess",
    "read_photo",
    "read_photo_file",
    "resize_short_side",
    "upright",
]
