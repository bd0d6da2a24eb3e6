"""Draws tables, vessels and the ground of the food: all of a photo but the pieces and the light.

A vessel is round or square, so its colour is a function of the distance from its centre alone: a
palette of 256 steps, looked up for every pixel at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from ...types import Floats, Floats64

Colour = tuple[float, float, float]
"""Red, green and blue, 0 to 255."""
_STEPS = 256  # of a palette
_REACH = 1.4  # where a profile ends, in units of the vessel's radius
_RADII = np.arange(_STEPS) * (_REACH / _STEPS)


@dataclass(frozen=True, slots=True)
class Vessel:
    """A plate, a pan, a tray: seen from above, a profile along its radius."""

    stops: tuple[tuple[float, float], ...]
    """(radius, brightness relative to its colour), interpolated in between; 1 is the rim."""
    colours: tuple[Colour, ...]
    """The colours it may have."""
    holds: float
    """Radius of the food, in units of the vessel's."""
    square: bool = False
    """Whether its outline is a square instead of a circle."""


_GLAZES = (
    (240, 238, 232), (250, 248, 240), (228, 220, 204), (120, 140, 160), (60, 66, 74),
    (196, 120, 90), (110, 140, 120), (214, 190, 150), (90, 110, 170), (186, 60, 60),
)  # fmt: skip

VESSELS: dict[str, Vessel] = {
    "plate": Vessel(
        ((0, 0.95), (0.74, 0.93), (0.77, 0.78), (0.8, 0.98), (0.97, 1.04), (1, 0.8)), _GLAZES, 0.76
    ),
    "bowl": Vessel(
        ((0, 0.9), (0.7, 0.82), (0.88, 0.6), (0.9, 1.05), (0.97, 1.0), (1, 0.75)), _GLAZES, 0.8
    ),
    "pan": Vessel(
        ((0, 1.1), (0.84, 1.0), (0.86, 0.6), (0.93, 1.5), (0.97, 1.9), (1, 0.8)),
        ((52, 50, 50), (70, 68, 66), (88, 60, 46), (44, 50, 58)), 0.82,
    ),
    "tray": Vessel(
        ((0, 1.0), (0.86, 0.98), (0.88, 0.7), (0.93, 1.15), (1, 0.8)),
        ((150, 152, 154), (90, 88, 88), (214, 206, 190), (176, 160, 140)), 0.82, square=True,
    ),
    "board": Vessel(
        ((0, 1.0), (0.94, 1.0), (0.97, 1.12), (1, 0.75)),
        ((190, 146, 96), (150, 104, 64), (214, 180, 134), (96, 68, 50), (70, 72, 76)), 0.84,
        square=True,
    ),
}  # fmt: skip
"""By the name that `appearance.Presentation` uses."""

BEDS: dict[str, tuple[tuple[float, float, Colour | None], ...]] = {
    "liquid": ((0, 1.0, None), (0.9, 0.97, None), (1, 1.12, None)),
    "crust": ((0, 1.0, (214, 112, 62)), (0.8, 1.0, (226, 160, 84)), (0.84, 1.0, (222, 178, 116)),
              (0.94, 1.0, (208, 154, 90)), (1, 0.85, (160, 104, 56))),
    "egg": ((0, 1.0, (240, 206, 104)), (0.86, 1.0, (236, 192, 86)), (1, 1.0, (176, 116, 52))),
    "pastry": ((0, 1.0, (244, 230, 186)), (0.86, 1.0, (242, 224, 172)), (0.88, 0.8, (180, 128, 70)),
               (0.92, 1.0, (216, 166, 100)), (1, 0.9, (170, 116, 62))),
    "cream": ((0, 1.0, (240, 234, 222)), (0.9, 0.98, (236, 228, 212)), (1, 0.95, (220, 210, 190))),
}  # fmt: skip
"""Grounds that pieces lie in: (radius, brightness, colour) along the radius of the food; a colour
of None is the sauce's."""


@cache
def noise(name: str) -> Floats:
    """Return a tile of noise, float32 (512, 512), about -1 to 1: the same on every machine.

    Args:
        name: "grain" (pixel by pixel), "mottle" (patches of some 12 pixels), "wood", "cloth" or
            "stone".
    """
    side = 512
    if name == "grain":
        return _uniform((side, side), 1)
    if name == "cloth":
        wave = np.sin(np.arange(side) * np.pi / 4)
        return (0.5 * (wave[:, None] + wave[None, :]) + 0.3 * noise("grain")).astype(np.float32)
    if name == "wood":
        fibres = np.repeat(_uniform((side, 8), 3), side // 8, axis=1)
        planks = np.repeat(_uniform((8, 1), 4), side // 8, axis=0)
        return (0.6 * _smooth(fibres, 5) + 0.6 * planks).astype(np.float32)
    cell = 8 if name == "mottle" else 32
    coarse = _uniform((side // cell, side // cell), cell)
    return 1.6 * _smooth(np.repeat(np.repeat(coarse, cell, axis=0), cell, axis=1), cell)


def _uniform(shape: tuple[int, int], key: int) -> Floats:
    """Return random numbers from -1 to 1."""
    # Only the raw stream of a bit generator is promised to stay as it is across NumPy versions.
    raw = np.random.Philox(key=key).random_raw(shape[0] * shape[1])
    uniform: Floats = (raw >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)
    return uniform.reshape(shape)


def _smooth(tile: Floats, width: int) -> Floats:
    """Return a tile after two passes of a box filter each way, wrapping around at the edges."""
    for _ in range(2):
        for axis in (0, 1):
            tile = np.mean([np.roll(tile, i, axis) for i in range(width)], axis=0, dtype=np.float32)
    return tile


def table(crop: Floats, colour: Colour, contrast: float) -> Image.Image:
    """Return a table of one colour.

    Args:
        crop: what a tile of noise shows in the frame, (side, side).
        colour: its mean colour.
        contrast: of the grain of wood or cloth, 0 to 1.
    """
    levels = np.linspace(-1, 1, _STEPS)
    palette = (1 + contrast * levels)[:, None] * np.array(colour)
    return _painted(crop * (_STEPS / 2) + _STEPS / 2, palette)


def lay_vessel(image: Image.Image, u: Floats, v: Floats, vessel: Vessel, colour: Colour) -> None:
    """Draw a vessel and its shadow on the table.

    Args:
        image: the table, painted upon.
        u, v: the point of every pixel on the vessel, in units of its radius, (side, side) each.
        vessel: its profile.
        colour: its colour.
    """
    radius = np.maximum(np.abs(u), np.abs(v)) if vessel.square else np.sqrt(u * u + v * v)
    radii, levels = zip(*vessel.stops, strict=True)
    palette = np.interp(_RADII, radii, levels)[:, None] * np.array(colour)
    palette[_RADII > 1] = 0
    shadow = 0.35 * np.clip((1.25 - _RADII) / 0.25, 0, 1)
    _cover(image, radius, palette, np.maximum(shadow, np.clip((1.01 - _RADII) / 0.02, 0, 1)))


def lay_bed(
    image: Image.Image, u: Floats, v: Floats, name: str, holds: float, sauce: Colour
) -> None:
    """Draw the ground that the pieces lie in on the vessel.

    Args:
        image: the vessel, painted upon.
        u, v: the point of every pixel, (side, side) each; unevenness in them makes an uneven edge.
        name: a key of `BEDS`.
        holds: radius of the food, in units of the vessel's.
        sauce: the colour of a liquid.
    """
    radii = [stop[0] * holds for stop in BEDS[name]]
    paints = np.array([np.array(colour or sauce) * level for _, level, colour in BEDS[name]])
    palette = np.stack([np.interp(_RADII, radii, channel) for channel in paints.T], axis=1)
    _cover(image, np.sqrt(u * u + v * v), palette, np.clip((holds - _RADII) / 0.02, 0, 1))


def _cover(
    image: Image.Image,
    radius: Floats,
    palette: Floats64,
    opacity: Floats64,
) -> None:
    """Paint by radius.

    Args:
        image: painted upon.
        radius: of every pixel, (side, side).
        palette: the colour at each of `_RADII`, (256, 3).
        opacity: at each of `_RADII`, 0 to 1, (256,).
    """
    rings = radius * (_STEPS / _REACH)
    mask = Image.fromarray(np.minimum(rings, _STEPS - 1).astype(np.uint8))
    image.paste(_painted(rings, palette), mask=mask.point([round(255 * x) for x in opacity]))


def _painted(steps: Floats, palette: Floats64) -> Image.Image:
    """Return RGB from steps 0 to 255 of a palette: far cheaper than floats of three channels."""
    painted = Image.fromarray(np.clip(steps, 0, _STEPS - 1).astype(np.uint8), "P")
    painted.putpalette(np.clip(palette, 0, 255).astype(np.uint8).tobytes())
    return painted.convert("RGB")
