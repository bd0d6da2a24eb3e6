"""What pixels an image encoder reads: how many, how a photo is brought to them, their scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..artifacts.json_fields import dataclass_fields
from ..limits import ENOUGH_PIXELS

LARGEST_INPUT = 2048
"""Pixels of a side; more would not be an image encoder's input but a mistake, or an attack."""
CORNER_SCALE = 1.27
"""How many times as long as the encoder's input the shorter side is that corners are cut out of."""
Triple = tuple[float, float, float]
"""A number for each of red, green and blue."""


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """Pixels as an image encoder reads them; the defaults are those of torchvision's classifiers.

    A part of the model: an encoder that is shown pixels resized or scaled in another way than in
    its training sees worse, and nothing says so.
    """

    size: int = 224
    """Pixels of each side of the square that the encoder reads."""
    short_side: int = 256
    """Pixels that the photo's shorter side is scaled to before the centre is cut out."""
    resize: Literal["shorter", "squash"] = "shorter"
    """`shorter` keeps the photo's shape and cuts the centre out; `squash` scales the whole photo to
    the square, as SigLIP does."""
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
    """How pixels are interpolated, always antialiased."""
    longer_side: Literal["round", "truncate"] = "round"
    """How the longer side comes to whole pixels where the shorter one is scaled; torchvision, timm
    and transformers truncate. It moves a photo by half a pixel at most."""
    mean: Triple = (0.485, 0.456, 0.406)
    """Mean of red, green and blue, of values from 0 to 1, that is taken off."""
    deviation: Triple = (0.229, 0.224, 0.225)
    """What they are divided by then."""

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.short_side <= LARGEST_INPUT:
            raise ValueError(
                f"an input of {self.size} pixels out of {self.short_side} is not within 1 and "
                f"{LARGEST_INPUT}"
            )
        if not all(math.isfinite(value) for value in (*self.mean, *self.deviation)):
            raise ValueError("mean and deviation of pixels must be finite")
        if min(self.deviation) <= 0:
            raise ValueError("the deviation of pixels must be positive")

    @property
    def least_side(self) -> int:
        """Return the pixels of a photo's shorter side below which it is not decoded.

        A decoder may reduce a large photo, but not below what any crop of it is scaled to: pixels
        would be made up that the file has.
        """
        return max(ENOUGH_PIXELS, self.short_side, math.ceil(CORNER_SCALE * self.size))

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ImageInput:
        """Read what `to_json` wrote.

        Raises:
            ValueError: a field is of another type, out of its range or unknown.
        """
        fields = dataclass_fields(cls, record, "the image encoder's input", most=LARGEST_INPUT)
        for name in ("mean", "deviation"):
            if name in fields:
                fields[name] = _triple(fields[name], name)
        return cls(**fields)


def _triple(value: object, name: str) -> Triple:
    """Return a list of three numbers as a tuple."""
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError(f"{name} is no list of three numbers")
    if not all(type(number) in (int, float) for number in value):
        raise ValueError(f"{name} has something that is no number")
    red, green, blue = (float(number) for number in value)
    return red, green, blue
