"""Where a dataset's photos are, so that an index of it can show them later.

A place is told within a root, which may move as a whole: a file by its path in a folder, a photo
that a dataset holds inside (in an LMDB, or drawn) by its position there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

RootKind = Literal["folder", "dataset"]
"""What a root is: a folder of photo files, or a dataset that holds its photos."""
Place: TypeAlias = str | int
"""A file's path in its folder, parts divided by `/`, or a recipe's position in its dataset."""


class PhotoRoot(NamedTuple):
    """What places of photos are relative to."""

    kind: RootKind
    where: str
    """The folder's path, or what `open_dataset` takes."""


@runtime_checkable
class PhotoPlaces(Protocol):
    """A dataset that knows where each of its photos is."""

    @property
    def photo_root(self) -> PhotoRoot | None:
        """Return what its places are relative to; None where it has none."""

    def photo_place(self, index: int) -> Place | None:
        """Return the place of the photo of the recipe at a position; None where it has none."""


def photo_root(dataset: object) -> PhotoRoot | None:
    """Return what a dataset's places are relative to; None for one that does not know."""
    return dataset.photo_root if isinstance(dataset, PhotoPlaces) else None


def photo_place(dataset: object, index: int) -> Place | None:
    """Return the place of a photo; None where there is none, or none that is remembered.

    Args:
        dataset: holds the recipe.
        index: the recipe's position.
    """
    return dataset.photo_place(index) if isinstance(dataset, PhotoPlaces) else None


def place_in_folder(folder: Path, image: str) -> str | None:
    """Return the place of a photo file in a folder; None where it lies outside.

    A file outside moves apart from the folder, and whoever wrote the data may have named any.

    Args:
        folder: the root.
        image: path of the file as the data has it, relative to the folder or absolute.
    """
    if "\0" in image:
        return None
    try:
        path = Path(os.path.relpath(folder / image, folder)).as_posix()
    except ValueError:  # on another drive of Windows
        return None
    return None if path == "." or path.split("/")[0] == ".." else path
