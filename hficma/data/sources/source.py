"""The base of the sources of an import: recipes in one order, and the bytes of their photos.

Photos are read apart from recipes, by name, since they are decoded by threads later, and by another
process altogether where a killed import goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...recipe import Recipe
from ...text.word_vectors import WordVectors
from ...types import Floats

Sentences = Floats
"""Encoded sentences of a recipe, (S, D_s)."""


@dataclass(frozen=True, kw_only=True)
class SourceRecipe:
    """A recipe of a source with its photos, detected names and vectors."""

    recipe: Recipe
    """Its text; the importer sets `image`."""
    images: tuple[str, ...] = ()
    """The argument of `Source.photo` for each of its photos."""
    names: tuple[str, ...] = ()
    """Ingredient names by the source's own detector."""
    sentences: Sentences | None = None
    """(n, D) float32 vectors of its instructions, where the source has them."""


class Source(ABC):
    """Base of the sources. Reading one twice gives the same recipes in the same order.

    Args:
        path: of the file or folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def recipes(
        self, *, strict: bool, on_bad: Callable[[str], None], scratch: Path
    ) -> Iterator[SourceRecipe]:
        """Stream the recipes.

        Args:
            strict: raise on the first bad record instead of leaving it out.
            on_bad: called with one line for each record left out.
            scratch: an empty folder for what is too much for memory.

        Raises:
            InputError: the source cannot be read, or a record is bad and `strict` is set.
        """

    def photo(self, image: str) -> bytes:
        """Return the bytes of a photo file; called by several threads at once.

        Args:
            image: one of `SourceRecipe.images`; here a path relative to `path`.

        Raises:
            InputError: there is no such photo.
        """
        return read_bytes(self.path / image)

    def word_vectors(self) -> WordVectors | None:
        """Return the word vectors that come with the source, or None."""
        return None

    def close(self) -> None:
        """Close what reading photos holds open; the next reading opens it again."""
        return

    def __len__(self) -> int:
        """Count the recipes where that is known beforehand, else 0."""
        return 0

    def signature(self) -> dict[str, Any]:
        """Return what must be the same for a killed import to go on: kind, path and date."""
        return {
            "source": type(self).__name__,
            "path": str(self.path.resolve()),
            "modified": self.path.stat().st_mtime_ns if self.path.exists() else 0,
        }


def read_bytes(path: Path) -> bytes:
    """Return a photo file's bytes.

    Args:
        path: of the file.

    Raises:
        InputError: it cannot be read.
    """
    from ...images import read_photo_file

    return read_photo_file(path)
