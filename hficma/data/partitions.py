"""Partitions that a run chose itself, for a dataset that names none.

They are stored in the run by recipe id, not in the dataset, which may not be writable and may serve
several runs. By id and not by position they hold when the file is sorted or grows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..artifacts.manifest import read_manifest, verified_file
from ..errors import ArtifactError
from ..limits import parse_json
from ..recipe import PARTITIONS, Recipe
from ..types import Pixels
from .dataset import Dataset, open_dataset, positions
from .photo_origin import photo_origin
from .photo_places import PhotoRoot, Place, photo_place, photo_root
from .photos import photo_count, photo_pixels, photo_side, reduced_photo

if TYPE_CHECKING:
    from PIL.Image import Image

FILE = "partitions.json"
"""In a run: `{"test": [ids], "val": [ids]}`."""


class DatasetView:
    """Base of views that change a dataset's recipes and leave its name and photos as they are.

    Args:
        dataset: the dataset.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    @property
    def name(self) -> str:
        """Return the dataset's own name."""
        return self._dataset.name

    def __len__(self) -> int:
        """Count the recipes."""
        return len(self._dataset)

    def photo(self, index: int) -> Image:
        """Return the recipe's photo."""
        return self._dataset.photo(index)

    def reduced_photo(self, index: int, side: int) -> Image:
        """Return the photo at a reduced size; see `ReducedPhotos`."""
        return reduced_photo(self._dataset, index, side)

    @property
    def photo_side(self) -> int | None:
        """Return the dataset's own; see `ShrunkPhotos`."""
        return photo_side(self._dataset)

    def photo_count(self, index: int) -> int:
        """Return how many photos the recipe has; see `NumberedPhotos`."""
        return photo_count(self._dataset, index)

    def photo_pixels(self, index: int, side: int, number: int = 0) -> Pixels:
        """Return any of the recipe's photos as pixels; see `NumberedPhotos`."""
        return photo_pixels(self._dataset, index, side, number)

    def photo_origin(self, index: int) -> Path | str:
        """Return where the photo's bytes are."""
        return photo_origin(self._dataset, index)

    @property
    def photo_root(self) -> PhotoRoot | None:
        """Return the dataset's own."""
        return photo_root(self._dataset)

    def photo_place(self, index: int) -> Place | None:
        """Return the place of the recipe's photo; see `PhotoPlaces`."""
        return photo_place(self._dataset, index)


class Partitioned(DatasetView):
    """A view of a dataset in which some recipes are of another partition.

    Args:
        dataset: the dataset.
        partitions: partition by recipe id; other recipes keep theirs.
    """

    def __init__(self, dataset: Dataset, partitions: Mapping[str, str]) -> None:
        super().__init__(dataset)
        self._partitions = partitions

    def recipe(self, index: int) -> Recipe:
        """Return the recipe, in its partition."""
        recipe = self._dataset.recipe(index)
        partition = self._partitions.get(recipe.id)
        return recipe if partition is None else dataclasses.replace(recipe, partition=partition)


def read_partitions(run: Path) -> dict[str, str]:
    """Return the partition of each recipe that a run chose one for; empty where it chose none.

    Args:
        run: its directory.

    Returns:
        partition by recipe id.

    Raises:
        ArtifactError: it is no run, or the file is damaged.
    """
    manifest = read_manifest(run, kind="run")
    if FILE not in manifest.files:
        return {}
    file = verified_file(run, manifest, FILE)
    record = parse_json(file.read_text(encoding="utf-8"), name=str(file))
    if not isinstance(record, dict) or not set(record) <= set(PARTITIONS):
        raise ArtifactError(f"{file}: must hold lists of ids by partition")
    return {str(name): partition for partition, names in record.items() for name in names}


def open_runs_dataset(
    run: Path, data: str | None = None, *, on_bad: Callable[[str], None] | None = None
) -> Dataset | None:
    """Open the dataset of a run, or another one, in the run's partitions where they apply.

    They apply to the run's own dataset. A folder may have been moved since, so they also apply to a
    dataset of another name, if it names no test pairs and has every recipe that the run kept out:
    otherwise pairs that the model was trained on would be taken for test pairs.

    Args:
        run: the run's directory.
        data: what `open_dataset` takes; None takes the run's own.
        on_bad: called with one line for each record left out.

    Returns:
        the dataset; None where none is given and the run knows of none: it was converted.
    """
    run_dataset = read_manifest(run, kind="run").facts.get("dataset")
    spec = data or run_dataset
    if spec is None:
        return None
    dataset = open_dataset(spec, on_bad=on_bad)
    partitions = read_partitions(run)
    if not partitions:
        return dataset
    if dataset.name != run_dataset:
        names = {dataset.recipe(index).id for index in range(len(dataset))}
        if len(positions(dataset, ("test",))) or not partitions.keys() <= names:
            return dataset
    return Partitioned(dataset, partitions)
