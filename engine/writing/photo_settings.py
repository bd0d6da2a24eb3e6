"""What an index notes of its items' photos while it is written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hficma.data.photo_places import photo_place, photo_root
from hficma.errors import InputError
from hficma.images.thumbnails import thumbnail
from hficma.recipe import Recipe

from ..files.photo_file import PhotoRow
from ..index.index_facts import IndexFacts
from ..index.photos import recorded_root

if TYPE_CHECKING:
    from PIL.Image import Image

    from hficma.data.dataset import Dataset

_log = logging.getLogger("hficma")


class PhotoSettings(NamedTuple):
    """What is noted of the photos of one dataset's items."""

    root: int | None
    """Of the index's roots, the one that the dataset's places are in; None where it has none."""
    keep: bool
    """Whether a small JPEG of each is kept."""
    folder: str | None = None
    """Where the dataset's photos are files; None for one that holds them inside."""

    def row(
        self, dataset: Dataset, position: int, recipe: Recipe, photo: Image | None = None
    ) -> PhotoRow | None:
        """Return what is known of an item's photo; None where there is none.

        Args:
            dataset: holds the item.
            position: of the item in the dataset.
            recipe: its record.
            photo: the item's, if it was decoded already.
        """
        if recipe.image is None:
            return None
        place = photo_place(dataset, position) if self.root is not None else None
        jpeg = None
        # A photo that a recipe names outside of its folder is nobody's to copy.
        if self.keep and (place is not None or self.root is None):
            try:
                jpeg = thumbnail(dataset.photo(position) if photo is None else photo)
            except InputError as error:  # the recipe is as good without
                _log.warning("%s: its photo is not kept (%s)", recipe.id, error)
        if place is None and jpeg is None:
            return None
        return PhotoRow(self.root if place is not None else None, place, jpeg)

    def outside(self, recipes: Sequence[Recipe], photos: Sequence[PhotoRow | None]) -> int:
        """Return how many items have a photo that the data name outside of their folder.

        Args:
            recipes: of the items.
            photos: what is known of each one's photo, as `row` gave it.
        """
        if self.folder is None:
            return 0
        pairs = zip(recipes, photos, strict=True)
        return sum(bool(recipe.image) and photo is None for recipe, photo in pairs)


def with_photo_root(
    facts: IndexFacts, folder: Path, dataset: Dataset | None
) -> tuple[IndexFacts, PhotoSettings]:
    """Return an index's facts with the root of a dataset's photos, and what is noted of them.

    Args:
        facts: of the index so far.
        folder: of the index.
        dataset: whose items are indexed; None where there are none.
    """
    root = None if dataset is None else photo_root(dataset)
    if root is None:
        return facts, PhotoSettings(None, facts.keep_photos)
    recorded = recorded_root(root, folder)
    if recorded not in facts.photo_roots:
        facts = replace(facts, photo_roots=(*facts.photo_roots, recorded))
    where = root.where if root.kind == "folder" else None
    return facts, PhotoSettings(facts.photo_roots.index(recorded), facts.keep_photos, where)
