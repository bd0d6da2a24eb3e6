"""Summarises a dataset: counts, lengths, frequent ingredients and classes, a contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..text.ingredients import ingredient_name
from ..text.words import sentences, words
from .dataset import Dataset, positions
from .photos import readable_photos

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_FREQUENT = 20
"""Ingredients and classes that are listed."""
SAMPLED = 20_000
"""Recipes that lengths and ingredients are counted on; more would only take longer."""
PHOTOS = 24
"""Photos on a contact sheet."""
_COLUMNS = 6
# Pixels of the sheet: a photo's side, the two lines of its title below it, and the space around.
_TILE = 192
_CAPTION = 34
_MARGIN = 8


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is in a dataset; `hficma data show` prints it."""

    name: str
    """The dataset's name."""
    recipes: int
    """The number of recipes."""
    with_photo: int
    """The number of recipes with a photo."""
    partitions: dict[str, int]
    """Recipes by partition; those without one count as `train`."""
    lengths: dict[str, dict[str, float]]
    """Spread of ingredients and sentences a recipe, and words a sentence: `median`, `90 %` (the
    quantile) and `most`."""
    ingredients: list[tuple[str, int]]
    """The most frequent ingredient names, with the number of lines that have them."""
    classes: list[tuple[str, int]]
    """The most frequent classes, with the number of their recipes."""
    counted_on: int
    """The number of recipes that the last three were counted on: a random draw of a large
    dataset."""


def summarise(dataset: Dataset, *, seed: int = 0) -> Summary:
    """Count what is in a dataset.

    Args:
        dataset: the dataset.
        seed: of the draw of recipes from a large dataset.
    """
    total = len(dataset)
    with_photo = positions(dataset, with_photo=True)
    partitions = {part: len(positions(dataset, [part])) for part in ("train", "val", "test")}
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.permutation(total)[:SAMPLED])
    names: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    ingredients: list[int] = []
    steps: list[int] = []
    lengths: list[int] = []
    for index in chosen:
        recipe = dataset.recipe(int(index))
        line_names = (" ".join(ingredient_name(line)) for line in recipe.ingredients)
        names.update(filter(None, line_names))
        classes.update([recipe.category] if recipe.category else [])
        parts = sentences(recipe.instructions)
        ingredients.append(len(recipe.ingredients))
        steps.append(len(parts))
        lengths.extend(len(words(part)) for part in parts)
    return Summary(
        name=dataset.name,
        recipes=total,
        with_photo=len(with_photo),
        partitions={part: count for part, count in partitions.items() if count},
        lengths={
            "ingredients": _spread(ingredients),
            "sentences": _spread(steps),
            "words a sentence": _spread(lengths),
        },
        ingredients=names.most_common(MOST_FREQUENT),
        classes=classes.most_common(MOST_FREQUENT),
        counted_on=len(chosen),
    )


def contact_sheet(dataset: Dataset, *, count: int = PHOTOS, seed: int = 0) -> Image:
    """Draw random photos with their titles in one picture.

    Args:
        dataset: one with photos.
        count: the number of photos, at most.
        seed: of the draw of photos.

    Returns:
        RGB, six tiles wide.

    Raises:
        InputError: no recipe has a photo, or none that can be read.
    """
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    with_photo = positions(dataset, with_photo=True)
    if not len(with_photo):
        raise InputError(f"{dataset.name}: no recipe has a photo, so there is no contact sheet")
    # Ten times as many as are shown: a dataset with nine broken photos in ten still fills its
    # sheet.
    order = np.random.default_rng(seed).permutation(with_photo)[: 10 * count].tolist()
    chosen = list(readable_photos(dataset, order, most=count))
    rows = -(-len(chosen) // _COLUMNS)
    width = _COLUMNS * (_TILE + _MARGIN) + _MARGIN
    height = rows * (_TILE + _CAPTION + _MARGIN) + _MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    for number, (index, whole) in enumerate(chosen):
        row, column = divmod(number, _COLUMNS)
        x = _MARGIN + column * (_TILE + _MARGIN)
        y = _MARGIN + row * (_TILE + _CAPTION + _MARGIN)
        photo = ImageOps.fit(whole, (_TILE, _TILE))
        sheet.paste(photo, (x, y))
        for line, text in enumerate(_wrapped(dataset.recipe(index).title, draw, font)):
            draw.text((x, y + _TILE + 2 + 15 * line), text, fill="black", font=font)
    return sheet


def _spread(values: Iterable[int]) -> dict[str, float]:
    array = np.array(list(values) or [0])
    return {
        "median": float(np.median(array)),
        "90 %": float(np.quantile(array, 0.9)),
        "most": float(array.max()),
    }


def _wrapped(title: str, draw: object, font: object) -> list[str]:
    """Return a title in at most two lines of a tile's width, the rest as an ellipsis."""
    lines = [""]
    for word in title.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font) <= _TILE:  # type: ignore[attr-defined]
            lines[-1] = longer
        elif len(lines) == 2:
            lines[-1] = lines[-1][:-1] + "\u2026"
            break
        else:
            lines.append(word)
    return lines
