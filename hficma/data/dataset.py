"""What training, indexing and benchmarks read: recipes with their photos, by position.

`Dataset` is the interface, a protocol, so that a reader's own class needs no base. `open_dataset`
gives one for each thing that a user may name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from ..artifacts.manifest import MANIFEST
from ..errors import InputError
from ..pretrained import pretrained_path
from ..recipe import Recipe, read_jsonl
from ..types import Mask, Positions, Strings
from .photo_places import PhotoRoot, place_in_folder

if TYPE_CHECKING:
    from PIL.Image import Image


COOKBOOK = "cookbook"
"""Names the recipes that come with the package, where no file or folder is called so."""

# Suffixes that `hficma data import` reads. Taken for JSONL, each line of them would be a bad
# record.
_IMPORTED = (
    ".html", ".htm", ".xhtml", ".mhtml", ".mht", ".csv", ".tsv", ".cook", ".zip", ".jsonld",
    ".paprikarecipes", ".paprikarecipe", ".melarecipes", ".melarecipe",
)  # fmt: skip


class Dataset(Protocol):
    """Recipes and photos by position, from 0.

    An instance is cheap to open and safe to share between threads: photos are decoded by several.
    """

    @property
    def name(self) -> str:
        """Return what `open_dataset` takes to find the same dataset again."""

    def __len__(self) -> int:
        """Count the recipes."""

    def recipe(self, index: int) -> Recipe:
        """Return the recipe at a position."""

    def photo(self, index: int) -> Image:
        """Return the first photo of the recipe at a position, upright RGB.

        Raises:
            InputError: the recipe has no photo, or the file is no image.
        """


@runtime_checkable
class Columns(Protocol):
    """A dataset that answers for all recipes at once.

    Choosing positions reads every recipe otherwise, which takes minutes for a million of them.
    """

    def partitions(self) -> Strings:
        """Return every recipe's partition, (M,); `train` where it has none."""

    def has_photo(self) -> Mask:
        """Return whether each recipe has a photo, (M,)."""


class RecipeList:
    """Recipes in memory, whose photos lie relative to a folder.

    Args:
        recipes: in their order.
        name: what `open_dataset` takes, where it can.
        folder: of the photos.
    """

    def __init__(self, recipes: Sequence[Recipe], *, name: str, folder: Path) -> None:
        self._recipes = recipes
        self._name = name
        self._folder = folder

    @property
    def name(self) -> str:
        """Return the name that it was opened by."""
        return self._name

    def __len__(self) -> int:
        """Count the recipes."""
        return len(self._recipes)

    def recipe(self, index: int) -> Recipe:
        """Return the recipe at a position."""
        return self._recipes[index]

    def photo(self, index: int) -> Image:
        """Return the recipe's photo as upright RGB; see `Dataset.photo`."""
        from ..images import read_photo

        return read_photo(self._photo_file(index))

    def reduced_photo(self, index: int, side: int) -> Image:
        """Return the photo at a reduced size; see `ReducedPhotos`."""
        from ..images import read_photo

        return read_photo(self._photo_file(index), enough=side)

    def _photo_file(self, index: int) -> Path:
        """Return the file of the recipe's photo.

        Raises:
            InputError: it has none.
        """
        recipe = self._recipes[index]
        if recipe.image is None:
            raise InputError(f"{self._name}: recipe {recipe.id} has no photo")
        return self._folder / recipe.image

    def photo_origin(self, index: int) -> Path | str:
        """Return the recipe's photo file; empty where it has none."""
        recipe = self._recipes[index]
        return "" if recipe.image is None else self._folder / recipe.image

    @property
    def photo_root(self) -> PhotoRoot:
        """Return the folder that photos lie relative to."""
        return PhotoRoot("folder", str(self._folder.absolute()))

    def photo_place(self, index: int) -> str | None:
        """Return the path of the recipe's photo in the folder; see `PhotoPlaces`."""
        image = self._recipes[index].image
        return None if image is None else place_in_folder(self._folder, image)


class JsonlDataset(RecipeList):
    """A JSONL file of recipes, whose photos lie relative to its folder.

    It is read whole and held in memory.

    Args:
        path: the file, or `-` for standard input.
        strict: make a bad record an error instead of leaving it out.
        on_bad: called with one line for each record left out.

    Raises:
        InputError: it cannot be read, or holds no usable recipe.
    """

    def __init__(
        self,
        path: Path,
        *,
        strict: bool = False,
        on_bad: Callable[[str], None] | None = None,
    ) -> None:
        # A dict keeps the order, and finds a recipe that is there twice (by all its fields).
        recipes: dict[Recipe, None] = {}
        for recipe in read_jsonl(path, strict=strict, on_bad=on_bad):
            if recipe in recipes:
                message = f"{path}: recipe {recipe.id} ({recipe.title!r}) is there twice"
                if strict:
                    raise InputError(message)
                if on_bad is not None:
                    on_bad(message)
            recipes[recipe] = None
        if not recipes:
            raise InputError(f"{path}: holds no usable recipe")
        super().__init__(list(recipes), name=str(path.resolve()), folder=path.parent)


def open_dataset(
    spec: str, *, strict: bool = False, on_bad: Callable[[str], None] | None = None
) -> Dataset:
    """Open what `--data` names: a JSONL file, a dataset directory, `sample:N[:SEED]` or `cookbook`.

    Args:
        spec: the option's text.
        strict: make a bad record an error instead of leaving it out.
        on_bad: called with one line for each record left out.

    Raises:
        InputError: nothing there, or nothing usable in it.
    """
    if spec == "sample" or spec.startswith("sample:"):
        from .sample import SampleDataset

        return SampleDataset.from_spec(spec)
    path = Path(spec)
    if not path.exists() and spec == COOKBOOK:
        # By this name an index finds it again in any installation.
        file = pretrained_path("cookbook")
        recipes = list(read_jsonl(file, strict=strict, on_bad=on_bad))
        return RecipeList(recipes, name=COOKBOOK, folder=file.parent)
    if not path.exists() and spec != "-":
        raise InputError(
            f"{path}: no such file; give a JSONL file, a dataset directory, sample:N or {COOKBOOK}"
        )
    if (path / MANIFEST).is_file():
        from .directory import DatasetDirectory

        return DatasetDirectory(path)
    if path.is_dir():
        raise InputError(
            f"{path}: is no dataset directory; make one with `hficma data import {path} --out NAME`"
        )
    if spec != "-" and path.name.lower().endswith(_IMPORTED):
        raise InputError(
            f"{path}: is no JSONL file; make a dataset of it with "
            f"`hficma data import {path} --out NAME`"
        )
    return JsonlDataset(path, strict=strict, on_bad=on_bad)


def positions(
    dataset: Dataset, partitions: Sequence[str] | None = None, *, with_photo: bool = False
) -> Positions:
    """Return the positions of the recipes in some partitions, in the dataset's order.

    Args:
        dataset: where to look.
        partitions: `train`, `val`, `test`; None takes all. Recipes without a partition are
            `train`.
        with_photo: leave out recipes without a photo.

    Returns:
        int64 (M,), ascending.
    """
    if isinstance(dataset, Columns):
        mask = np.ones(len(dataset), dtype=np.bool_)
        if partitions is not None:
            mask &= np.isin(dataset.partitions(), list(partitions))
        if with_photo:
            mask &= dataset.has_photo()
        return np.flatnonzero(mask).astype(np.int64)
    rows = [
        index
        for index in range(len(dataset))
        if (recipe := dataset.recipe(index))
        and (partitions is None or (recipe.partition or "train") in partitions)
        and (recipe.image is not None or not with_photo)
    ]
    return np.array(rows, dtype=np.int64)
