"""Reads im2recipe-PyTorch's LMDBs, which HF-ICMA uses too: one for each split, with its keys.

train_lmdb/          by recipe id, a pickled dict: ingrs (ingredient ids), intrs (sentence
vectors), imgs (names of photos), classes
train_keys.pkl       a pickled list of the recipe ids
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ....errors import InputError
from ....recipe import PARTITIONS
from ....text.word_vectors import WordVectors
from ....untrusted.worker import Worker
from ..source import Source, SourceRecipe, read_bytes
from . import untrusted_reader
from .lmdb_source import PublishedText
from .published_files import (
    Classes,
    ImageTree,
    UnusedPhotos,
    find,
    layer_table,
    whole_entry,
)
from .published_vocabulary import published_vectors, published_words


class Im2RecipeSource(Source):
    """A folder with `train_lmdb`, `val_lmdb`, `test_lmdb` (any of them) and their keys.

    Args:
        path: of the folder; vocabulary, image folders and `layer1.json` may lie beside.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._photos = ImageTree(path)

    @classmethod
    def fits(cls, path: Path) -> bool:
        """Return whether a split's LMDB and keys are there."""
        return any(all(cls._places(path, part)) for part in PARTITIONS)

    @staticmethod
    def _places(path: Path, part: str) -> tuple[Path | None, Path | None]:
        """Return where the LMDB and the keys of a split are."""
        return find(path, f"{part}_lmdb"), find(path, f"{part}_keys.pkl")

    def recipes(
        self, *, strict: bool, on_bad: Callable[[str], None], scratch: Path
    ) -> Iterator[SourceRecipe]:
        """See the base."""
        report = _raising if strict else on_bad
        words = published_words(self.path)
        classes = Classes(find(self.path, "classes1M.pkl"))
        texts = layer_table(find(self.path, "layer1.json"), scratch, "texts", whole_entry)
        text = PublishedText(words, texts, classes)
        photos = UnusedPhotos(self.path, self._photos)
        with Worker(modules=[untrusted_reader.__name__]) as worker:
            for part in PARTITIONS:
                store, keys = self._places(self.path, part)
                if store is None or keys is None:
                    for there, lacks in ((store, f"{part}_keys.pkl"), (keys, f"{part}_lmdb")):
                        if there is not None:
                            report(
                                f"{there}: is left out, {lacks}, which belongs to it, is missing"
                            )
                    continue
                records = worker.stream(
                    untrusted_reader.im2recipe_records,
                    store,
                    keys,
                    name=str(store),
                    seconds=untrusted_reader.SECONDS,
                )
                numbers = next(records)
                if numbers["entries"] > numbers["keys"]:
                    report(
                        f"{store} holds {numbers['entries']} recipes, {keys} names "
                        f"{numbers['keys']}: those that it does not name are left out"
                    )
                yield from text.recipes(
                    records,
                    partition=part,
                    where=str(store),
                    images=photos.of,
                    strict=strict,
                    on_bad=on_bad,
                )
        photos.report(on_bad)

    def photo(self, image: str) -> bytes:
        """See the base."""
        return read_bytes(self._photos.find(image))

    def word_vectors(self) -> WordVectors | None:
        """Return the vectors of `vocab.bin` or `vocab.pkl` beside the LMDBs, or None."""
        return published_vectors(self.path)


def _raising(note: str) -> None:
    """Make an error of a note."""
    raise InputError(note)
