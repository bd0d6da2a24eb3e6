"""Changing a served index: through the index writer, then live as any other change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from PIL.Image import Image

from hficma.errors import InputError
from hficma.images import decode_photo
from hficma.limits import ENOUGH_PIXELS
from hficma.recipe import Recipe

from ..index.index_facts import ItemKind
from ..runtimes.options import ExecutionKeywords
from ..writing.index_writer import IndexWriter

SENT = "sent"
"""Stands where a recipe names its photo: it came with the recipe."""


class NewItems:
    """Recipes that a client sent, and the photo of one of them; a dataset.

    A client's recipe may name a photo by a path: it is dropped, since none of its paths is opened.

    Args:
        recipes: as they came.
        photo: the file of the only one's photo.
        of: what the index holds that they go to. Of photos, each must have one: one that is missing
            is then told of, where a recipe that names none would be passed over.
    """

    name = "sent by a client"

    def __init__(self, recipes: Sequence[Recipe], photo: bytes | None, of: ItemKind) -> None:
        image = SENT if of == "images" or photo is not None else None
        self._recipes = [replace(recipe, image=image) for recipe in recipes]
        self._photo = photo

    def __len__(self) -> int:
        return len(self._recipes)

    def recipe(self, index: int) -> Recipe:
        """Return a recipe."""
        return self._recipes[index]

    def photo(self, index: int) -> Image:
        """Return the photo of a recipe; see `reduced_photo`."""
        return self.reduced_photo(index, ENOUGH_PIXELS)

    def reduced_photo(self, index: int, side: int) -> Image:
        """Return the photo of a recipe; see `hficma.data.photos.ReducedPhotos`.

        Raises:
            InputError: none was sent, or it cannot be read.
        """
        if self._photo is None:
            raise InputError(f"recipe {self._recipes[index].id}: no photo was sent with it")
        return decode_photo(self._photo, name="photo", enough=side)


class IndexChange(NamedTuple):
    """What a change did."""

    changed: int
    """Items added or removed."""
    notes: tuple[str, ...] = ()
    """A line about each item that was left out."""


def add_items(path: Path, items: NewItems, execution: ExecutionKeywords) -> IndexChange:
    """Add items to an index.

    Args:
        path: of the index.
        items: recipes, and for an index of photos their photos.
        execution: how to run the branches.

    Raises:
        ArtifactError: another process writes to the index.
    """
    notes: list[str] = []
    with IndexWriter(path) as writer:
        return IndexChange(writer.add(items, on_bad=notes.append, **execution), tuple(notes))


def remove_item(path: Path, recipe_id: str) -> IndexChange:
    """Take an item out of an index.

    Raises:
        InputError: no item has the id.
        ArtifactError: another process writes to the index.
    """
    with IndexWriter(path) as writer:
        return IndexChange(writer.remove([recipe_id]))


def compact(path: Path) -> IndexChange:
    """Free the space of removed items.

    Raises:
        ArtifactError: another process writes to the index.
    """
    with IndexWriter(path) as writer:
        writer.compact()
    return IndexChange(0)
