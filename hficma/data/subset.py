"""A part of a dataset that is read as a dataset itself, or as a sequence of recipes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, overload

from ..errors import InputError
from ..recipe import Recipe
from ..types import Positions
from .dataset import Dataset, positions
from .photo_origin import photo_origin
from .photo_places import PhotoRoot, Place, photo_place, photo_root
from .photos import reduced_photo

if TYPE_CHECKING:
    from PIL.Image import Image


class Subset:
    """Some recipes of a dataset, in an order of their own.

    Args:
        dataset: the whole.
        positions: (N,) of the recipes in it.
    """

    def __init__(self, dataset: Dataset, positions: Positions) -> None:
        self._dataset, self._positions = dataset, positions

    @classmethod
    def of_partitions(cls, dataset: Dataset, partitions: Sequence[str]) -> Self:
        """Return the recipes of some partitions (`train`, `val`, `test`), in the dataset's order.

        Raises:
            InputError: none of its recipes is in them.
        """
        rows = positions(dataset, partitions)
        if not len(rows):
            raise InputError(f"{dataset.name}: holds no recipe of {', '.join(partitions)}")
        return cls(dataset, rows)

    @property
    def name(self) -> str:
        """Return the whole dataset's name."""
        return self._dataset.name

    def __len__(self) -> int:
        """Count the recipes of the part."""
        return len(self._positions)

    def recipe(self, index: int) -> Recipe:
        """Return the recipe at a position, which counts from 0 within the part."""
        return self._dataset.recipe(int(self._positions[index]))

    def photo(self, index: int) -> Image:
        """Return the recipe's photo."""
        return self._dataset.photo(int(self._positions[index]))

    def reduced_photo(self, index: int, side: int) -> Image:
        """Return the photo at a reduced size; see `ReducedPhotos`."""
        return reduced_photo(self._dataset, int(self._positions[index]), side)

    def photo_origin(self, index: int) -> Path | str:
        """Return where the photo's bytes are."""
        return photo_origin(self._dataset, int(self._positions[index]))

    @property
    def photo_root(self) -> PhotoRoot | None:
        """Return the whole dataset's."""
        return photo_root(self._dataset)

    def photo_place(self, index: int) -> Place | None:
        """Return the place of the recipe's photo; see `PhotoPlaces`."""
        return photo_place(self._dataset, int(self._positions[index]))


class SubsetRecipes(Sequence[Recipe]):
    """Recipes of a dataset as a sequence, each read when it is looked at and not kept.

    Args:
        dataset: the whole.
        positions: (N,) of the recipes in it.
    """

    def __init__(self, dataset: Dataset, positions: Positions) -> None:
        self._dataset, self._positions = dataset, positions

    def __len__(self) -> int:
        """Count the recipes."""
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> Recipe: ...
    @overload
    def __getitem__(self, index: slice) -> SubsetRecipes: ...
    def __getitem__(self, index: int | slice) -> Recipe | SubsetRecipes:
        """Return a recipe, or some of them in a sequence of this kind."""
        if isinstance(index, slice):
            return SubsetRecipes(self._dataset, self._positions[index])
        return self._dataset.recipe(int(self._positions[index]))
