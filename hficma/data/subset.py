"""A part of a dataset, by partition, that is read as a dataset itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..recipe import Recipe
from .dataset import Dataset, positions
from .photo_origin import photo_origin

if TYPE_CHECKING:
    from PIL.Image import Image


class Subset:
    """The recipes of some partitions, in the dataset's order.

    Args:
        dataset: the whole.
        partitions: of `train`, `val`, `test`.

    Raises:
        InputError: none of its recipes is in them.
    """

    def __init__(self, dataset: Dataset, partitions: Sequence[str]) -> None:
        self._dataset = dataset
        self._positions = positions(dataset, partitions)
        if not len(self._positions):
            raise InputError(f"{dataset.name}: holds no recipe of {', '.join(partitions)}")

    @property
    def name(self) -> str:
        """Return the whole dataset's name."""
        return self._dataset.name

    def __len__(self) -> int:
        """Count the recipes of the partitions."""
        return len(self._positions)

    def recipe(self, index: int) -> Recipe:
        """Return the recipe at a position, which counts from 0 within the part."""
        return self._dataset.recipe(int(self._positions[index]))

    def photo(self, index: int) -> Image:
        """Return the recipe's photo."""
        return self._dataset.photo(int(self._positions[index]))

    def photo_origin(self, index: int) -> Path | str:
        """Return where the photo's bytes are."""
        return photo_origin(self._dataset, int(self._positions[index]))
