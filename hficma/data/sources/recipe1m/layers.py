"""Reads Recipe1M's layers: `layer1.json`, `layer2.json`, `det_ingrs.json` and the image folders.

The first layer has the text, the second names the photos, `det_ingrs.json` the ingredients that a
detector found in the lines. They are joined by id, and too large for memory: the others are put on
the disk (`LayerTable`) before the first is streamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import InputError
from ....recipe import PARTITIONS, Recipe
from ....text.word_vectors import WordVectors
from ..source import Sentences, Source, SourceRecipe, read_bytes
from .json_stream import read_json_list
from .published_files import (
    Classes,
    ImageTree,
    UnusedPhotos,
    detected_names,
    find,
    image_names,
    layer1_recipe,
    layer_table,
    removed_ids,
)
from .published_vocabulary import published_vectors
from .torch7 import read_t7
from .untrusted_reader import MAX_SENTENCES


class Recipe1MSource(Source):
    """A folder with `layer1.json`; whatever else is published may lie beside it.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._layer1 = find(path, "layer1.json")
        self._photos = ImageTree(path)

    @classmethod
    def fits(cls, path: Path) -> bool:
        """Return whether there is a first layer."""
        return path.is_dir() and find(path, "layer1.json") is not None

    def recipes(
        self, *, strict: bool, on_bad: Callable[[str], None], scratch: Path
    ) -> Iterator[SourceRecipe]:
        """See the base."""
        assert self._layer1 is not None  # `fits` found it
        removed = removed_ids(find(self.path, "remove1M.txt"))
        classes = Classes(find(self.path, "classes1M.pkl"))
        names = layer_table(find(self.path, "det_ingrs.json"), scratch, "names", detected_names)
        images = layer_table(find(self.path, "layer2.json"), scratch, "images", image_names)
        photos = UnusedPhotos(self.path, self._photos)
        published_vectors(self.path)  # vocabularies that disagree: an error now, not at the end
        encoded = EncodedSentences.beside(self.path)
        # Records that are no objects are numbered too, as a reader of the file would count them.
        skipped = 0

        def skip(line: str) -> None:
            nonlocal skipped
            skipped += 1
            on_bad(line)

        entries = read_json_list(self._layer1, None if strict else skip)
        for place, entry in enumerate(entries, 1):
            number = place + skipped
            if entry.get("id") in removed:
                continue
            try:
                recipe = layer1_recipe(entry, f"{self._layer1} record {number}")
            except InputError as error:
                if strict:
                    raise
                on_bad(str(error))
                continue
            yield SourceRecipe(
                recipe=with_category(recipe, classes.of(recipe.id)),
                images=photos.of((images.get(recipe.id) or ()) if images else ()),
                names=tuple((names.get(recipe.id) or ()) if names else ()),
                sentences=encoded.of(recipe.id),
            )
        photos.report(on_bad)

    def photo(self, image: str) -> bytes:
        """See the base."""
        return read_bytes(self._photos.find(image))

    def word_vectors(self) -> WordVectors | None:
        """Return the vectors of `vocab.bin` or `vocab.pkl` beside the layers, or None."""
        return published_vectors(self.path)


class EncodedSentences:
    """Skip-instruction vectors of `encs_{train,val,test}_1024.t7`, read from the disk as needed.

    A file is a table of ragged rows: `encs` (sum(S), 1024) holds the vectors of all recipes; recipe
    i of `ids` has `rlens[i]` of them from row `rbps[i]` on, which counts from 1.

    Args:
        files: of the splits.

    Raises:
        InputError: a file is no such table.
    """

    def __init__(self, files: list[Path]) -> None:
        self._rows: dict[str, tuple[Any, int, int]] = {}
        for path in files:
            table = read_t7(path)
            try:
                vectors = table["encs"]
                starts = np.asarray(table["rbps"]).astype(np.int64).ravel()
                counts = np.asarray(table["rlens"]).astype(np.int64).ravel()
                ids = [_characters(row) for row in table["ids"]]
                if vectors.ndim != 2 or not len(ids) == len(starts) == len(counts):
                    raise ValueError("its parts differ in length")
                if len(ids) and (counts.min() < 0 or counts.max() > MAX_SENTENCES):
                    raise ValueError(f"a recipe has more than {MAX_SENTENCES} instructions")
                if len(ids) and (starts.min() < 1 or (starts - 1 + counts).max() > len(vectors)):
                    raise ValueError("a recipe's vectors lie outside the table")
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise InputError(f"{path}: holds no encoded instructions ({error})") from error
            for identity, start, count in zip(ids, starts, counts, strict=True):
                self._rows[identity] = (vectors, int(start) - 1, int(count))

    @classmethod
    def beside(cls, root: Path) -> EncodedSentences:
        """Return the vectors of the files in a folder; there may be none."""
        paths = (find(root, f"encs_{part}_1024.t7") for part in PARTITIONS)
        return cls([path for path in paths if path is not None])

    def of(self, identity: str) -> Sentences | None:
        """Return a recipe's vectors (S, D_s), or None where it was not encoded."""
        if identity not in self._rows:
            return None
        vectors, start, count = self._rows[identity]
        return np.ascontiguousarray(vectors[start : start + count], dtype=np.float32)


def with_category(recipe: Recipe, category: str | None) -> Recipe:
    """Return a recipe with its class, or unchanged where it has none.

    Args:
        recipe: without a class.
        category: the class's name.
    """
    return replace(recipe, category=category) if category else recipe


def _characters(row: Any) -> str:
    """Return an id, which Torch stores as a row of character codes, padded with zeros."""
    if isinstance(row, str):
        return row
    return bytes(np.asarray(row).astype(np.uint8).tolist()).decode("ascii").rstrip("\0")
