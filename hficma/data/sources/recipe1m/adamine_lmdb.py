"""Reads AdaMine's data: an LMDB for each field and split, whose keys are pickled integers.

data_lmdb/train/ids.lmdb        recipe ids by position
data_lmdb/train/ingrs.lmdb      ingredient ids; likewise ilens, classes, numims, impos
data_lmdb/train/rbps.lmdb       where a recipe's sentences begin in stvecs (rlens: how many)
data_lmdb/train/stvecs.lmdb     sentence vectors of all recipes
data_lmdb/train/ims.lmdb        pickled images of all recipes, which impos points into
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

from ....recipe import PARTITIONS
from ....text.word_vectors import WordVectors
from ....untrusted.worker import Worker
from ..source import Source, SourceRecipe
from . import untrusted_reader
from .lmdb_source import PublishedText
from .published_files import Classes, find, layer_table, whole_entry
from .published_vocabulary import published_vectors, published_words


class AdaMineSource(Source):
    """A folder with `data_lmdb/{train,val,test}/*.lmdb`, or those splits themselves.

    Args:
        path: of the folder; the vocabulary and `layer1.json` may lie beside.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._stores = path / "data_lmdb" if (path / "data_lmdb").is_dir() else path
        self._photos: Worker | None = None
        self._reading = Lock()

    @classmethod
    def fits(cls, path: Path) -> bool:
        """Return whether a split's ids are there."""
        return any(
            (path / folder / part / "ids.lmdb").exists()
            for folder in ("data_lmdb", "")
            for part in PARTITIONS
        )

    def recipes(
        self, *, strict: bool, on_bad: Callable[[str], None], scratch: Path
    ) -> Iterator[SourceRecipe]:
        """See the base."""
        words = published_words(self.path)
        classes = Classes(find(self.path, "classes1M.pkl"))
        texts = layer_table(find(self.path, "layer1.json"), scratch, "texts", whole_entry)
        text = PublishedText(words, texts, classes)
        without: list[str] = []
        with Worker(modules=[untrusted_reader.__name__]) as worker:
            for part in PARTITIONS:
                folder = self._stores / part
                if not (folder / "ids.lmdb").exists():
                    continue
                records = worker.stream(
                    untrusted_reader.adamine_records,
                    folder,
                    name=str(folder),
                    seconds=untrusted_reader.SECONDS,
                )
                next(records)  # the number of recipes, once the fields agree on it
                has_photos = (folder / "ims.lmdb").exists()
                if not has_photos:
                    without.append(str(folder / "ims.lmdb"))

                # Bound now: a closure would see the last split's.
                def places(
                    images: list[Any], part: str = part, has_photos: bool = has_photos
                ) -> tuple[str, ...]:
                    return tuple(f"{part}/{image}" for image in images) if has_photos else ()

                yield from text.recipes(
                    records,
                    partition=part,
                    where=str(folder),
                    images=places,
                    strict=strict,
                    on_bad=on_bad,
                )
        for store in without:
            on_bad(f"{store}: is missing, so the photos that its recipes name are left out")

    def photo(self, image: str) -> bytes:
        """See the base; the LMDB holds pixels, which are encoded as JPEG."""
        part, _, position = image.partition("/")
        store = self._stores / part / "ims.lmdb"
        with self._reading:  # a worker takes calls from one thread at a time
            if self._photos is None:
                self._photos = Worker(modules=[untrusted_reader.__name__, "PIL.Image"])
            content: bytes = self._photos.call(
                untrusted_reader.adamine_photo,
                store,
                int(position),
                name=f"{store} image {position}",
            )
        return content

    def close(self) -> None:
        """End the process that reads photos; the next one starts another."""
        with self._reading:
            if self._photos is not None:
                self._photos.close()
                self._photos = None

    def word_vectors(self) -> WordVectors | None:
        """Return the vectors of `text/vocab.pkl` or `vocab.bin`, or None."""
        return published_vectors(self.path)
