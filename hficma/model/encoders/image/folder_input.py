"""Reads what pixels an encoder was trained on from the folder of a Hugging Face model.

`preprocessor_config.json` says how photos are scaled, cut and normalised. Its fields mean different
things to different processors (a bare `size` is the shorter side to CLIP's, both sides to ViT's),
and what it leaves out is the processor's default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ....errors import InputError
from ....images.image_input import ImageInput, Triple
from ..model_folder import read_model_json

PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"
"""Where newer releases keep it, beside the tokenizer's, as `image_processor`."""

_SHORTER_SIDE = ("CLIP", "Bit", "ConvNext", "Convnext")
"""Beginnings of the names of processors that take a bare `size` for the shorter side."""
_CONVNEXT_SQUASHED = 384
"""Pixels from which on ConvNeXt's processor scales the whole photo to the square."""
_INTERPOLATIONS: dict[int, Literal["bilinear", "bicubic", "lanczos"]] = {
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
}
"""Pillow's numbers."""


def folder_input(folder: Path) -> ImageInput:
    """Return the pixels that a folder's image encoder reads.

    Args:
        folder: of a Hugging Face model.

    Raises:
        InputError: the file is missing, or asks for what photos are not brought to here.
    """
    path = folder / PREPROCESSOR
    if not path.is_file() and (folder / PROCESSOR).is_file():
        path = folder / PROCESSOR
    if not path.is_file():
        raise InputError(
            f"{folder}: has no {PREPROCESSOR}, which says what pixels the encoder reads; take the "
            "one that was published with it"
        )
    record = read_model_json(folder, path.name)
    if path.name == PROCESSOR:
        record = record.get("image_processor", {})
    try:
        return _image_input(record)
    except KeyError as error:
        raise InputError(f"{path}: has no {error.args[0]}") from error
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{path}: {error}") from error


def _image_input(record: Mapping[str, Any]) -> ImageInput:
    """Return the input that a processor's options describe; raises ValueError and its like."""
    kind = str(record.get("image_processor_type") or record.get("feature_extractor_type") or "")
    resample = record.get("resample", 2)
    if resample not in _INTERPOLATIONS:
        raise ValueError(f"interpolation {resample!r} is none of lanczos, bilinear and bicubic")
    # Values are brought to x * factor first; ours are x / 255.
    factor = 255 * float(record.get("rescale_factor", 1 / 255))
    if not factor > 0:
        raise ValueError(f"rescale_factor {factor / 255:g} is not above 0")
    normalises = record.get("do_normalize", True)
    mean = _triple(record, "image_mean", factor) if normalises else (0.0, 0.0, 0.0)
    deviation = _triple(record, "image_std", factor) if normalises else (1 / factor,) * 3
    short_side, size, resize = _sizes(record, kind)
    return ImageInput(
        size=size,
        short_side=short_side,
        resize=resize,
        interpolation=_INTERPOLATIONS[resample],
        longer_side="truncate",
        mean=mean,
        deviation=deviation,
    )


def _sizes(record: Mapping[str, Any], kind: str) -> tuple[int, int, Literal["shorter", "squash"]]:
    """Return the shorter side that a photo is scaled to, the side of the crop, and how."""
    if kind.startswith("Siglip2"):
        # NaFlex keeps each photo's shape, in so many patches at most; a square photo fills them.
        patch, patches = int(record.get("patch_size", 16)), int(record.get("max_num_patches", 256))
        side = patch * math.isqrt(patches)
        return side, side, "squash"
    size = record.get("size", 224)
    if isinstance(size, int):
        shorter = kind.startswith(_SHORTER_SIDE)
        size = {"shortest_edge": size} if shorter else {"height": size, "width": size}
    if "shortest_edge" in size:
        side = int(size["shortest_edge"])
        if kind.startswith(("ConvNext", "Convnext")):
            if side >= _CONVNEXT_SQUASHED:
                return side, side, "squash"
            return int(side / float(record.get("crop_pct") or 224 / 256)), side, "shorter"
        crop = _square(record["crop_size"]) if record.get("do_center_crop") else side
        return side, crop, "shorter"
    side = _square(size)
    crop = _square(record["crop_size"]) if record.get("do_center_crop") else side
    return side, crop, "squash"


def _square(size: Any) -> int:
    """Return the side of a square that is given by one number or by both of its sides."""
    if isinstance(size, int):
        return size
    if size["height"] != size["width"]:
        raise ValueError(f"photos of {size['width']} x {size['height']} are no squares")
    return int(size["height"])


def _triple(record: Mapping[str, Any], name: str, factor: float) -> Triple:
    """Return three numbers of a list, or one thrice, for values from 0 to 1."""
    values = record[name]
    red, green, blue = values if isinstance(values, list) else [values] * 3
    return float(red) / factor, float(green) / factor, float(blue) / factor
