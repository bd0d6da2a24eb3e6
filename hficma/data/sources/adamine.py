"""AdaMine's data: one LMDB per field and split, keys that are pickled integers."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from hficma.data.lmdb_files import open_lmdb
from hficma.errors import InputError
from hficma.recipe import PARTITIONS
from hficma.safe_pickle import loads
from hficma.vectors import WordVectors

from .lmdb_source import leaving_out_bad, recipe_of
from .published import (
    Classes,
    SideTable,
    find,
    ingredient_words,
    published_vectors,
    published_words,
    text_table,
)
from .recipe1m import with_category
from .source import Sentences, Source, SourceRecipe

KEY_PROTOCOLS = (3, 4, 2, 5)
"""The published code pickles keys by Python's default: 3 until 3.7, 4 since 3.8."""
JPEG_QUALITY = 95


class Field:
    """One field's LMDB: values by position from 0."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._environment = open_lmdb(path)
        with self._environment.begin() as transaction:
            known = (p for p in KEY_PROTOCOLS if transaction.get(pickle.dumps(0, p)) is not None)
            self._protocol = next(known, KEY_PROTOCOLS[0])

    def __len__(self) -> int:
        """Number of values."""
        return int(self._environment.stat()["entries"])

    def __getitem__(self, position: int) -> Any:
        """The value at a position.

        Raises:
            InputError: there is none, or it is no pickle that may be read.
        """
        # A transaction belongs to one thread, so every reading has its own.
        with self._environment.begin() as transaction:
            value = transaction.get(pickle.dumps(position, self._protocol))
        if value is None:
            raise InputError(f"{self.path}: holds no value {position}")
        return loads(value, name=f"{self.path} value {position}")


class AdaMineSource(Source):
    """A folder with `data_lmdb/{train,val,test}/*.lmdb`, or those splits themselves."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._stores = path / "data_lmdb" if (path / "data_lmdb").is_dir() else path
        self._photos: dict[str, Field] = {}
        self._opening = Lock()

    @classmethod
    def fits(cls, path: Path) -> bool:
        """Whether a split's ids are there."""
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
        texts = text_table(find(self.path, "layer1.json"), scratch)
        classes = Classes(find(self.path, "classes1M.pkl"))
        for part in PARTITIONS:
            folder = self._stores / part
            if (folder / "ids.lmdb").exists():
                split = _Split(folder, part, words, texts, classes)
                readers = (partial(split.read, position) for position in range(len(split)))
                yield from leaving_out_bad(readers, strict, on_bad)

    def photo(self, image: str) -> bytes:
        """See the base; the image store holds pixels, which are encoded anew."""
        part, _, position = image.partition("/")
        with self._opening:
            if part not in self._photos:
                self._photos[part] = Field(self._stores / part / "ims.lmdb")
        value = self._photos[part][int(position)]
        if not hasattr(value, "save"):
            raise InputError(f"{self._stores / part}: image {position} is no image")
        buffer = io.BytesIO()
        value.save(buffer, "JPEG", quality=JPEG_QUALITY)
        return buffer.getvalue()

    def word_vectors(self) -> WordVectors | None:
        """`text/vocab.pkl` or `vocab.bin`."""
        return published_vectors(self.path)


class _Split:
    """The fields of one split."""

    def __init__(
        self,
        folder: Path,
        part: str,
        words: tuple[str, ...],
        texts: SideTable | None,
        classes: Classes,
    ) -> None:
        self._folder = folder
        self._part = part
        self._words = words
        self._texts = texts
        self._classes = classes
        self._ids = Field(folder / "ids.lmdb")
        self._has_photos = (folder / "ims.lmdb").exists()
        optional = ("ingrs", "classes", "impos", "rbps", "rlens", "stvecs")
        self._fields = {
            name: Field(folder / f"{name}.lmdb")
            for name in optional
            if (folder / f"{name}.lmdb").exists()
        }

    def __len__(self) -> int:
        return len(self._ids)

    def read(self, position: int) -> SourceRecipe:
        """The recipe at a position; pointers into other fields count from 1."""
        where = f"{self._folder} recipe {position}"
        try:
            identity = str(self._ids[position])
            ids = self._value("ingrs", position, [])
            names = ingredient_words(ids, self._words)
            category = self._classes.name(int(self._value("classes", position, 1)) - 1)
            images = self._value("impos", position, []) if self._has_photos else []
            photos = tuple(f"{self._part}/{int(image) - 1}" for image in images)
            vectors = self._sentences(position)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where}: is no AdaMine record ({error!r})") from error
        recipe = recipe_of(identity, self._part, names, self._texts, where)
        return SourceRecipe(
            recipe=with_category(recipe, category), images=photos, names=names, sentences=vectors
        )

    def _value(self, field: str, position: int, default: Any) -> Any:
        return self._fields[field][position] if field in self._fields else default

    def _sentences(self, position: int) -> Sentences | None:
        if not {"rbps", "rlens", "stvecs"} <= set(self._fields):
            return None
        start = int(self._fields["rbps"][position]) - 1
        count = int(self._fields["rlens"][position])
        if count <= 0:
            return None
        vectors = self._fields["stvecs"]
        if not 0 <= start <= start + count <= len(vectors):
            raise ValueError(f"sentences {start} to {start + count} of {len(vectors)}")
        rows = [np.asarray(vectors[row], dtype=np.float32) for row in range(start, start + count)]
        return np.stack(rows)
