"""Draws one piece of an ingredient, a sprite: a shape, a texture, two colours and a shadow.

A sprite is drawn once for each look, at four times its size, and scaled down: Pillow draws without
antialiasing. `render` then colours and turns copies of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from ...types import Floats
from .pantry import COLOURS, Look

SPRITE = 48
"""Side of a sprite in pixels, its shadow included."""
_SIDE = 4 * SPRITE
"""Side of a sprite while it is drawn."""
_Point = tuple[float, float]
_Ink = int | tuple[int, int, int]


class _Canvas:
    """Draws in coordinates from -1 to 1, y downwards, on an image of one channel or three.

    -1 to 1 is 0.9 of the image: the rest is room for the shadow.
    """

    def __init__(self, image: Image.Image) -> None:
        self.pen = ImageDraw.Draw(image)

    @staticmethod
    def _pixel(x: float, y: float) -> _Point:
        return (x * 0.45 + 0.5) * _SIDE, (y * 0.45 + 0.5) * _SIDE

    def disc(self, x: float, y: float, r: float, fill: _Ink, ry: float | None = None) -> None:
        """Draw a disc around a point, or an ellipse where `ry` is its other radius."""
        ry = r if ry is None else ry
        self.pen.ellipse([self._pixel(x - r, y - ry), self._pixel(x + r, y + ry)], fill=fill)

    def area(self, points: Sequence[_Point], fill: _Ink) -> None:
        """Draw a polygon."""
        self.pen.polygon([self._pixel(*point) for point in points], fill=fill)

    def line(self, points: Sequence[_Point], width: float, fill: _Ink) -> None:
        """Draw a line through some points, with round ends."""
        pixels = [self._pixel(*point) for point in points]
        stroke = max(1, round(width * 0.45 * _SIDE))
        self.pen.line(pixels, fill=fill, width=stroke, joint="curve")
        for x, y in (pixels[0], pixels[-1]):
            r = stroke / 2
            self.pen.ellipse([x - r, y - r, x + r, y + r], fill=fill)


def _arc(radius: float, start: float, stop: float, x: float = 0, y: float = 0) -> list[_Point]:
    """Return points on a circle, angles in degrees."""
    angles = [math.radians(start + (stop - start) * i / 24) for i in range(25)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def _scatter(count: int, radius: float) -> list[_Point]:
    """Return points spread evenly over a disc, on a sunflower's spiral; the same every time."""
    return [
        (r * math.cos(2.4 * i), r * math.sin(2.4 * i))
        for i in range(count)
        for r in [radius * math.sqrt((i + 0.5) / count)]
    ]


def _cluster(canvas: _Canvas) -> None:
    for x, y in [(0, 0), *_arc(0.62, 0, 345)[::4]]:
        canvas.disc(x, y, 0.31, 255)


def _floret(canvas: _Canvas) -> None:
    canvas.area([(-0.2, 0), (0.2, 0), (0.28, 0.98), (-0.28, 0.98)], 255)
    for x, y in _arc(0.52, 150, 390, y=-0.15)[::6]:
        canvas.disc(x, y, 0.45, 255)


def _heart(canvas: _Canvas) -> None:
    canvas.disc(0, 0.3, 0.64, 255)
    canvas.area([(-0.62, 0.15), (0, -0.98), (0.62, 0.15)], 255)


def _mushroom(canvas: _Canvas) -> None:
    canvas.area([*_arc(0.95, 180, 360, y=0.1), (0.7, 0.3), (-0.7, 0.3)], 255)
    canvas.area([(-0.28, 0.2), (0.28, 0.2), (0.36, 0.95), (-0.36, 0.95)], 255)


def _sprig(canvas: _Canvas) -> None:
    canvas.line([(0, -0.9), (0, 0.95)], 0.12, 255)
    for y in (-0.85, -0.5, -0.15, 0.2):
        for side in (-0.55, 0.55):
            canvas.line([(0, y + 0.3), (side, y)], 0.15, 255)


def _star(canvas: _Canvas) -> None:
    radii = [0.98 if i % 2 == 0 else 0.45 for i in range(10)]
    angles = [math.pi * i / 5 for i in range(10)]
    canvas.area(
        [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)], 255
    )


def _shreds(canvas: _Canvas) -> None:
    for y, slant in ((-0.7, 0.3), (-0.3, -0.35), (0.05, 0.25), (0.4, -0.2), (0.75, 0.3)):
        canvas.line([(-0.8, y - slant), (0, y + slant / 3), (0.8, y + slant)], 0.13, 255)


def _strands(canvas: _Canvas) -> None:
    for i in range(5):
        wave = [(x / 8, 0.45 * i - 0.84 + 0.16 * math.sin(x * 0.8 + i)) for x in range(-8, 9)]
        canvas.line(wave, 0.17, 255)


def _ring(canvas: _Canvas) -> None:
    canvas.disc(0, 0, 0.9, 255)
    canvas.disc(0, 0, 0.46, 0)


def _small(radius: float, height: float, count: int) -> Callable[[_Canvas], None]:
    def draw(canvas: _Canvas) -> None:
        for i, (x, y) in enumerate(_scatter(count, 0.85)):
            canvas.line([(x, y), (x + height * math.cos(i), y + height * math.sin(i))], radius, 255)

    return draw


def _beans(canvas: _Canvas) -> None:
    for x, y, turn in ((-0.45, -0.4, 20), (0.45, -0.15, 140), (-0.2, 0.55, 260)):
        canvas.line(_arc(0.3, turn, turn + 150, x, y), 0.45, 255)


def _area(*points: _Point) -> Callable[[_Canvas], None]:
    return lambda canvas: canvas.area(points, 255)


SHAPES: dict[str, Callable[[_Canvas], None]] = {
    "arch": lambda canvas: canvas.line(_arc(0.75, 190, 350, y=0.4), 0.45, 255),
    "ball": lambda canvas: canvas.disc(0, 0, 0.68, 255),
    "bean": _beans,
    "bow": _area((-0.95, -0.6), (0, -0.15), (0.95, -0.6), (0.95, 0.6), (0, 0.15), (-0.95, 0.6)),
    "chunk": _area(
        (-0.9, -0.2), (-0.45, -0.8), (0.2, -0.65), (0.85, -0.75), (0.7, 0), (0.95, 0.5),
        (0.2, 0.85), (-0.3, 0.6), (-0.75, 0.75),
    ),
    "cluster": _cluster,
    "crescent": lambda canvas: canvas.area([*_arc(0.95, 0, 180, y=-0.45)], 255),
    "cube": _area((-0.72, -0.72), (0.72, -0.72), (0.72, 0.72), (-0.72, 0.72)),
    "curl": lambda canvas: canvas.line(_arc(0.6, -30, 220), 0.5, 255),
    "disc": lambda canvas: canvas.disc(0, 0, 0.9, 255),
    "dots": _small(0.2, 0, 14),
    "egg": lambda canvas: canvas.disc(0, 0, 0.72, 255, ry=0.98),
    "floret": _floret,
    "grains": _small(0.17, 0.3, 14),
    "heart": _heart,
    "leaf": lambda canvas: canvas.area(
        [*_arc(1.25, 50, 130, y=-0.8), *_arc(1.25, 230, 310, y=0.8)], 255
    ),
    "mushroom": _mushroom,
    "ring": _ring,
    "shreds": _shreds,
    "sprig": _sprig,
    "star": _star,
    "strands": _strands,
    "strip": _area((-0.98, -0.3), (0.98, -0.22), (0.98, 0.26), (-0.98, 0.3)),
    "tube": _area((-0.6, -0.38), (0.6, -0.38), (0.6, 0.38), (-0.6, 0.38)),
    "wedge": _area((0, -0.95), (0.9, 0.6), (0.45, 0.8), (-0.45, 0.8), (-0.9, 0.6)),
}  # fmt: skip
"""Outlines of pieces: each draws one in white (255) on black."""


def _half(canvas: _Canvas, ink: _Ink) -> None:
    canvas.area([(-1, 0), (1, 0), (1, 1), (-1, 1)], ink)


def _gloss(canvas: _Canvas, ink: _Ink) -> None:
    canvas.disc(-0.2, -0.12, 0.26, ink, ry=0.15)
    canvas.disc(0.35, 0.1, 0.1, ink)


def _grid(canvas: _Canvas, ink: _Ink) -> None:
    for at in (-0.5, 0.0, 0.5):
        canvas.line([(at, -1), (at, 1)], 0.13, ink)
        canvas.line([(-1, at), (1, at)], 0.13, ink)


def _rings(canvas: _Canvas, ink: _Ink) -> None:
    for radius in (0.35, 0.68):
        canvas.line(_arc(radius, 0, 360), 0.12, ink)


def _seeds(canvas: _Canvas, ink: _Ink) -> None:
    for x, y in [*_arc(0.5, 0, 345)[::3]]:
        canvas.disc(x, y, 0.12, ink)


def _speckle(canvas: _Canvas, ink: _Ink) -> None:
    for x, y in _scatter(22, 0.95):
        canvas.disc(x, y, 0.09, ink)


def _spokes(canvas: _Canvas, ink: _Ink) -> None:
    for x, y in _arc(0.8, 0, 345)[::3]:
        canvas.line([(0.2 * x, 0.2 * y), (x, y)], 0.1, ink)


def _stripes(canvas: _Canvas, ink: _Ink) -> None:
    for at in (-0.75, -0.38, 0.0, 0.38, 0.75):
        canvas.line([(at - 0.15, -1), (at + 0.15, 1)], 0.13, ink)


def _vein(canvas: _Canvas, ink: _Ink) -> None:
    canvas.line([(-0.95, 0), (0.95, 0)], 0.12, ink)
    for at in (-0.5, -0.05, 0.4):
        canvas.line([(at - 0.2, -0.6), (at, 0), (at - 0.2, 0.6)], 0.08, ink)


TEXTURES: dict[str, Callable[[_Canvas, _Ink], None]] = {
    "core": lambda canvas, ink: canvas.disc(0, 0, 0.36, ink),
    "gloss": _gloss,
    "grid": _grid,
    "half": _half,
    "plain": lambda canvas, ink: None,
    "rim": lambda canvas, ink: None,  # drawn along the outline, see `sprite`
    "rings": _rings,
    "seeds": _seeds,
    "speckle": _speckle,
    "spokes": _spokes,
    "stripes": _stripes,
    "vein": _vein,
}
"""Patterns on pieces: each draws one in the accent colour."""


@cache
def sprite(look: Look) -> Floats:
    """Draw a piece of a look, with a soft shadow around it.

    Returns:
        float32 (SPRITE, SPRITE, 4): red, green and blue multiplied by opacity, and opacity; 0 to
        255. So multiplied, colours can be mixed and scaled without dark fringes at the edge.
    """
    mask = Image.new("L", (_SIDE, _SIDE), 0)
    SHAPES[look.shape](_Canvas(mask))
    colour, accent = COLOURS[look.colour], COLOURS[look.accent]
    piece = Image.new("RGB", mask.size, colour)
    TEXTURES[look.texture](_Canvas(piece), accent)
    # The blurred outline is how far inside a point is: 255 in the middle, about 128 at the edge.
    depth = mask.filter(ImageFilter.GaussianBlur(_SIDE / 30))
    if look.texture == "rim":
        piece.paste(accent, mask=depth.point(lambda level: 255 if level < 205 else 0))
    # A rounded piece darkens towards its edge.
    piece.paste((20, 14, 10), mask=depth.point(lambda level: max(0, 255 - level) // 2))
    # Its shadow reaches beyond the outline, and lets 3/5 of the light through.
    shadow = mask.filter(ImageFilter.GaussianBlur(_SIDE / 24)).point(lambda level: level * 2 // 5)
    whole = Image.new("RGB", mask.size, (16, 10, 8))
    whole.paste(piece, mask=mask)
    whole.putalpha(ImageChops.lighter(mask, shadow))
    small = whole.convert("RGBa").resize((SPRITE, SPRITE), Image.Resampling.BOX)
    return np.asarray(small, np.float32)
