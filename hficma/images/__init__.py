"""Photos from wherever they come, decoded and preprocessed one way for training and serving."""

from .image_input import ImageInput
from .preprocessing import (
    PhotoSource,
    decode_photo,
    decode_pixels,
    load_photo,
    preprocess,
    read_photo,
    read_photo_file,
    resize_short_side,
    scale_photo,
)
from .upright import upright

__all__ = [
    "ImageInput",
    "PhotoSource",
    "decode_photo",
    "decode_pixels",
    "load_photo",
    "preprocess",
    "read_photo",
    "read_photo_file",
    "resize_short_side",
    "scale_photo",
    "upright",
]
