"""The synthetic sample as a dataset of any size, made item by item, the same on every machine."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from random import Random

from PIL import Image

from ...artifacts.content_digests import code_digest
from ...errors import InputError
from ...recipe import Recipe
from ..photo_places import PhotoRoot
from .appearance import appearance
from .grammar import Draft, draft
from .render import render

MIN_SIZE, MAX_SIZE = 100, 1_000_000
"""Items of a sample; with fewer, some partition or kind of dish might be empty."""


class SampleDataset:
    """Synthetic recipes, and a synthetic photo rendered for each when it is read.

    An item depends on the seed and its index alone, so a larger sample begins with a smaller one.
    Recipe, photo and partition of an item draw from random streams of their own, each seeded by a
    hash of the seed, the index and the part's name: so a change of how photos are drawn changes no
    recipe.

    Args:
        size: the number of items, 100 to 1,000,000.
        seed: another seed gives other recipes.
        appearance_seed: renders the photos with a shuffled table of looks (see `appearance`), the
            recipes unchanged; None keeps the true table.

    Raises:
        InputError: the size is out of bounds, or a seed is negative.
    """

    def __init__(self, size: int, *, seed: int = 0, appearance_seed: int | None = None) -> None:
        if not MIN_SIZE <= size <= MAX_SIZE:
            raise InputError(
                f"sample:{size}: the synthetic sample has {MIN_SIZE} to {MAX_SIZE} items; "
                f"ask for a size in between, such as sample:20000"
            )
        if seed < 0:
            raise InputError(f"sample:{size}:{seed}: the seed is negative; give 0 or more")
        self.size = size
        self.seed = seed
        self._appearance = appearance(appearance_seed)
        self._looks = appearance_seed

    @classmethod
    def from_spec(cls, spec: str) -> SampleDataset:
        """Return the sample that "sample:SIZE" or "sample:SIZE:SEED" names.

        Raises:
            InputError: the text does not name one.
        """
        match = re.fullmatch(r"sample:([0-9]{1,9})(?::([0-9]{1,18}))?", spec)
        if not match:
            raise InputError(
                f"{spec}: does not name a synthetic sample; "
                f"write sample:SIZE or sample:SIZE:SEED, such as sample:20000"
            )
        return cls(int(match[1]), seed=int(match[2] or 0))

    @property
    def name(self) -> str:
        """Return the spec that gives this sample again."""
        return f"sample:{self.size}" + (f":{self.seed}" if self.seed else "")

    def __len__(self) -> int:
        """Count the items."""
        return self.size

    def recipe(self, index: int) -> Recipe:
        """Return the recipe at `index`; its category is the kind of dish."""
        draft = self._draft(index)
        return Recipe(
            id=f"{index:06d}",
            title=draft.title,
            ingredients=draft.lines,
            instructions=draft.instructions,
            image=f"sample/{self.seed}/{index:06d}.jpg",
            partition=self.partition(index),
            category=draft.dish.kind,
        )

    def photo(self, index: int) -> Image.Image:
        """Return the photo at `index`, RGB, 256 x 256; it is rendered anew each time."""
        return render(self._draft(index), self._appearance, self._stream(index, "photo"))

    def photo_origin(self, index: int) -> str:
        """Return a text that changes with the photo: item, looks and the code that draws."""
        return f"sample/{self.seed}/{index} {self._looks} {_drawing()}"

    @property
    def photo_root(self) -> PhotoRoot:
        """Return this sample: its photos are drawn."""
        return PhotoRoot("dataset", self.name)

    def photo_place(self, index: int) -> int | None:
        """Return the position; None for a shuffled table of looks, which no name gives again."""
        return index if self._looks is None else None

    def partition(self, index: int) -> str:
        """Return `train` (80 %), `val` (10 %) or `test` (10 %).

        The partition is of a hash of the item, not of a share of the size: an item stays in it when
        the sample grows, so no test pair of a small sample is a training pair of a large one.
        """
        tenth = int.from_bytes(self._key(index, "partition")[:8], "big") % 10
        return {0: "test", 1: "val"}.get(tenth, "train")

    def ingredients(self, index: int) -> tuple[str, ...]:
        """Return the names of all ingredients, in the order of the recipe's lines."""
        return tuple(item.name for item in self._draft(index).contents)

    def visible_ingredients(self, index: int) -> tuple[str, ...]:
        """Return the names of the ingredients that the photo shows as pieces."""
        return tuple(item.name for item in self._draft(index).visible)

    def _draft(self, index: int) -> Draft:
        """Return the recipe before it has an id."""
        return draft(self._stream(index, "recipe"))

    def _stream(self, index: int, part: str) -> Random:
        """Return the random stream of a part of an item."""
        return Random(int.from_bytes(self._key(index, part), "big"))

    def _key(self, index: int, part: str) -> bytes:
        if not 0 <= index < self.size:
            raise IndexError(f"{self.name} has no item {index}")
        return hashlib.sha256(f"hficma sample/{self.seed}/{index}/{part}".encode()).digest()


@cache
def _drawing() -> str:
    """Return a digest of the code that draws, for caches of what is computed from photos."""
    return code_digest("hficma.data.sample", packages=("pillow", "numpy"))
