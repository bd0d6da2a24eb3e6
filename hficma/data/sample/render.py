"""Renders the photo of a recipe: pieces on a dish, on a table, in some light.

Photos are rendered when they are read, so it must be fast: pieces are sprites, each turned a few
times only, and surfaces are palettes over tiles of noise. What varies from photo to photo and is
not of the recipe (light, table, vessel, angle, ripeness, garnish) is what a model must learn to
ignore.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ...types import Floats
from .appearance import Appearance, Presentation
from .grammar import Draft
from .layout import LAYOUTS
from .pantry import COLOURS, PANTRY, Ingredient
from .pieces import SPRITE, sprite
from .vessels import VESSELS, Colour, Vessel, lay_bed, lay_vessel, noise, table

SIDE = 256
"""Side of a photo in pixels."""
_BED_ROLES = ("pasta", "grain")  # drawn first, as a ground for the others
_SMALL_ROLES = ("herb", "mint", "nut", "topping")  # of which there are fewer pieces
_GARNISHES = ("parsley", "mint", "dill", "chives", "basil", "pumpkin seeds", "red chilies")
_SIZE = 0.195  # half a piece's side, its shadow included, in units of the vessel's radius
_VIEWS = 3  # ways in which pieces of an ingredient are turned; turning is the costly part
_BROWN = (112, 66, 34)  # what heat adds
# Centres of pixels, -1 to 1 over the photo, (SIDE, SIDE) each: y grows downwards.
_Y, _X = (np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) + 0.5 - SIDE / 2) / (SIDE / 2)


@dataclass(frozen=True, slots=True)
class _Camera:
    """Maps the plane of the dish (u, v), in units of the vessel's radius, to pixels (x, y).

        x = self.x + xu u + xv v
        y = self.y + yu u + yv v

    The matrix turns the dish, presses it flat by the tilt, rolls the camera, and scales to pixels;
    there is no perspective.
    """

    xu: float
    """Pixels to the right for a unit of u."""
    xv: float
    """Pixels to the right for a unit of v."""
    yu: float
    """Pixels down for a unit of u."""
    yv: float
    """Pixels down for a unit of v."""
    x: float
    """Pixel of the dish's centre, from the left."""
    y: float
    """Pixel of the dish's centre, from the top."""

    @classmethod
    def draw(cls, rng: Random) -> _Camera:
        """Draw the distance, tilt, roll and direction of a camera."""
        radius = rng.uniform(106, 140)
        tilt = rng.uniform(0.68, 1.0)  # 1 is straight from above
        turn, roll = rng.uniform(-math.pi, math.pi), rng.uniform(-0.2, 0.2)
        a, b = math.cos(turn), math.sin(turn)
        c, d = math.cos(roll), math.sin(roll)
        return cls(
            xu=radius * (c * a - d * tilt * b),
            xv=radius * (-c * b - d * tilt * a),
            yu=radius * (d * a + c * tilt * b),
            yv=radius * (-d * b + c * tilt * a),
            x=SIDE / 2 + rng.gauss(0, 7),
            y=SIDE / 2 + rng.gauss(0, 7),
        )

    def at(self, u: float, v: float) -> tuple[float, float]:
        """Return the pixel of a point on the dish."""
        return self.x + self.xu * u + self.xv * v, self.y + self.yu * u + self.yv * v

    def plane(self) -> tuple[Floats, Floats]:
        """Return u and v of every pixel, (SIDE, SIDE) each: the inverse of `at`."""
        size = self.xu * self.yv - self.xv * self.yu
        x = _X * (SIDE / 2) + np.float32(SIDE / 2 - self.x)
        y = _Y * (SIDE / 2) + np.float32(SIDE / 2 - self.y)
        u = np.float32(self.yv / size) * x - np.float32(self.xv / size) * y
        v = np.float32(self.xu / size) * y - np.float32(self.yu / size) * x
        return u, v


def render(draft: Draft, appearance: Appearance, rng: Random) -> Image.Image:
    """Render the photo of a recipe.

    Args:
        draft: the recipe.
        appearance: the looks of ingredients and kinds of dish.
        rng: draws what a photographer decides: light, table, vessel, angle, crop, garnish.

    Returns:
        RGB, SIDE x SIDE.
    """
    presentation = appearance.presentations[draft.dish.kind]
    vessel = VESSELS[rng.choice(presentation.vessels)]
    camera = _Camera.draw(rng)
    sauce = _sauce(draft, rng)
    image = _scene(presentation, vessel, camera, sauce, rng)
    if presentation.layout == "rows":
        _draw_sticks(image, camera, vessel)
    # The radius of the centres of pieces, so that their edges stay inside.
    holds = vessel.holds - (0.14 if presentation.bed else 0.08)
    under = [item for item in draft.visible if item.role in _BED_ROLES]
    upper = [item for item in draft.visible if item.role not in _BED_ROLES]
    rng.shuffle(upper)
    for items, counts, layout in (
        (under, [34] * len(under), "scatter"),
        (upper, [_abundance(item, rng) for item in upper], presentation.layout),
        (*_garnish(draft, rng), "scatter"),
    ):
        views = [_views(item, appearance, presentation, sauce, camera, rng) for item in items]
        for owner, x, y in LAYOUTS[layout](counts, vessel.square and not presentation.bed, rng):
            if rng.random() >= presentation.sunk:
                _paste(image, rng.choice(views[owner]), camera.at(x * holds, y * holds))
    return _lit(image, rng)


def _sauce(draft: Draft, rng: Random) -> Colour:
    """Draw the colour of the liquid: the mean of what has dissolved in it, a little off."""
    tints = [
        np.array(COLOURS[item.tint])
        for item in draft.contents
        if item.tint and item not in draft.visible
    ]
    mixed = np.mean(tints, axis=0) if tints else np.array(COLOURS["cream"])
    red, green, blue = (float(level) * rng.uniform(0.85, 1.1) for level in mixed)
    return red, green, blue


def _abundance(item: Ingredient, rng: Random) -> int:
    """Draw the number of pieces of an ingredient."""
    return rng.randint(4, 6) if item.role in _SMALL_ROLES else rng.randint(5, 9)


def _garnish(draft: Draft, rng: Random) -> tuple[list[Ingredient], list[int]]:
    """Draw a garnish that the recipe does not name, on two photos in five: text tells not all."""
    if rng.random() < 0.6:
        return [], []
    present = {item.name for item in draft.contents}
    name = rng.choice([name for name in _GARNISHES if name not in present])
    return [PANTRY[name]], [rng.randint(1, 3)]


def _scene(
    presentation: Presentation, vessel: Vessel, camera: _Camera, sauce: Colour, rng: Random
) -> Image.Image:
    """Draw the table, the vessel, and the ground that the pieces lie in."""
    tile = _crop(noise(rng.choice(("wood", "cloth", "stone", "stone"))), rng)
    grey = rng.uniform(40, 235)
    colour = (grey * rng.uniform(0.85, 1.2), grey, grey * rng.uniform(0.8, 1.15))
    image = table(tile if rng.random() < 0.5 else tile.T, colour, rng.uniform(0.03, 0.2))
    u, v = camera.plane()
    red, green, blue = (level * rng.uniform(0.92, 1.06) for level in rng.choice(vessel.colours))
    lay_vessel(image, u, v, vessel, (red, green, blue))
    if presentation.bed:
        uneven = 1 + 0.02 * _crop(noise("mottle"), rng)
        lay_bed(image, u * uneven, v * uneven, presentation.bed, vessel.holds, sauce)
    return image


def _crop(tile: Floats, rng: Random) -> Floats:
    """Return a random part of a tile, (SIDE, SIDE)."""
    top, left = rng.randrange(tile.shape[0] - SIDE), rng.randrange(tile.shape[1] - SIDE)
    return tile[top : top + SIDE, left : left + SIDE]


def _draw_sticks(image: Image.Image, camera: _Camera, vessel: Vessel) -> None:
    """Draw four skewers, under the rows of `layout.rows`."""
    pen = ImageDraw.Draw(image)
    for line in range(4):
        v = (line - 1.5) * 0.46 * (vessel.holds - 0.08)
        pen.line([camera.at(-0.95, v), camera.at(0.95, v)], fill=(196, 160, 110), width=3)


def _views(
    item: Ingredient,
    appearance: Appearance,
    presentation: Presentation,
    sauce: Colour,
    camera: _Camera,
    rng: Random,
) -> list[Image.Image]:
    """Draw an ingredient's piece as it looks in this photo, turned in several ways.

    Ripeness scales each channel, heat mixes in brown, and the sauce coats: one 4 x 4 matrix over
    the sprite's channels (red, green, blue, opacity), whose last row adds colour.
    """
    browned, coat = (
        presentation.browned * rng.uniform(0, 2),
        presentation.coat * rng.uniform(0.6, 1.4),
    )
    ripe = np.array([rng.uniform(0.8, 1.15) for _ in range(3)])
    # Colours are multiplied by opacity (Pillow's "RGBa"), so a colour is added in proportion to it.
    change = np.eye(4, dtype=np.float32)
    change[:3, :3] = np.diag(ripe * (1 - browned) * (1 - coat))
    change[3, :3] = (np.array(_BROWN) * browned * (1 - coat) + np.array(sauce) * coat) / 255
    pixels = np.clip(sprite(appearance.looks[item.name]) @ change, 0, 255).astype(np.uint8)
    dressed = Image.fromarray(pixels, "RGBa")
    return [_turned(dressed, camera, rng) for _ in range(_VIEWS)]


def _turned(piece: Image.Image, camera: _Camera, rng: Random) -> Image.Image:
    """Return a piece at a random angle and size, lying in the plane of the dish."""
    size, stretch = _SIZE * rng.uniform(0.88, 1.14), rng.uniform(0.85, 1.15)
    angle = rng.uniform(-math.pi, math.pi)
    c, s = size * math.cos(angle), size * math.sin(angle)
    # The piece's axes in pixels, as columns (a, d) and (b, e). Pillow wants the inverse: for each
    # pixel of the result, the place in the sprite that it shows.
    a, b = camera.xu * c + camera.xv * s, (camera.xv * c - camera.xu * s) * stretch
    d, e = camera.yu * c + camera.yv * s, (camera.yv * c - camera.yu * s) * stretch
    # Corners of the square are empty: what encloses its inner circle is enough.
    wide, high = math.ceil(math.hypot(a, b)), math.ceil(math.hypot(d, e))
    scale = SPRITE / 2 / (a * e - b * d)
    back = (
        scale * e, -scale * b, SPRITE / 2 - scale * (e * wide - b * high),
        -scale * d, scale * a, SPRITE / 2 - scale * (a * high - d * wide),
    )  # fmt: skip
    return piece.transform(
        (2 * wide, 2 * high), Image.Transform.AFFINE, back, resample=Image.Resampling.BILINEAR
    )


def _paste(image: Image.Image, piece: Image.Image, centre: tuple[float, float]) -> None:
    """Paste a piece around a pixel."""
    x, y = centre
    image.paste(piece, (round(x) - piece.width // 2, round(y) - piece.height // 2), piece)


def _lit(image: Image.Image, rng: Random) -> Image.Image:
    """Return the photo in random light, coloured and from a side, with vignette and grain."""
    if rng.random() < 0.35:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.2, 0.8)))
    side, fall = rng.uniform(-math.pi, math.pi), rng.uniform(0, 0.28)
    light = 1 + fall * (math.cos(side) * _X + math.sin(side) * _Y)
    light -= rng.uniform(0, 0.22) * (_X * _X + _Y * _Y)
    light *= 1 + 0.04 * _crop(noise("mottle"), rng)
    warmth, tint = rng.gauss(0, 0.13), rng.gauss(0, 0.05)
    bright = rng.uniform(0.66, 1.2)
    gains = (1 + warmth, 1 + tint, 1 - warmth)
    grain = rng.uniform(0, 9) * _crop(noise("grain"), rng)
    return Image.merge(
        "RGB",
        [
            Image.fromarray(
                np.clip(channel * (light * (bright * gain)) + grain, 0, 255).astype(np.uint8)
            )
            for channel, gain in zip(map(np.asarray, image.split()), gains, strict=True)
        ],
    )
