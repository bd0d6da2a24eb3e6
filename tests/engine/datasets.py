"""Small datasets whose photos are noise, which random models read as well as any other."""

from __future__ import annotations

import numpy as np
from PIL import Image

from hficma.errors import InputError
from hficma.recipe import Recipe
from tests.words import WORDS


class NoiseDataset:
    """Recipes of known words with photos of noise.

    Args:
        count: recipes.
        first: number of the first recipe's id.
        bad: positions whose recipe cannot be read.
        without_photo: positions of recipes without a photo.
    """

    def __init__(
        self,
        count: int,
        *,
        first: int = 0,
        bad: tuple[int, ...] = (),
        without_photo: tuple[int, ...] = (),
    ) -> None:
        self._count, self._first, self._bad, self._without = count, first, bad, without_photo

    @property
    def name(self) -> str:
        return f"noise:{self._first}:{self._count}"

    def __len__(self) -> int:
        return self._count

    def recipe(self, index: int) -> Recipe:
        if index in self._bad:
            raise InputError(f"noise line {index}: is no recipe")
        number = index + self._first
        rng = np.random.default_rng(number)
        words = [w.replace("_", " ") for w in rng.choice(WORDS, int(rng.integers(2, 12)))]
        return Recipe(
            id=f"r{number}",
            title=f"{words[0]} soup",
            ingredients=tuple(words),
            instructions=(f"bake {words[0]}", f"stir {words[1]} and {words[-1]}."),
            image=None if index in self._without else f"{number}.png",
            category=("soup", "cake")[number % 2],
        )

    def photo(self, index: int) -> Image.Image:
        rng = np.random.default_rng(index + self._first)
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC)
