"""im2recipe-PyTorch's LMDBs, which HF-ICMA uses too: one per split, with its `*_keys.pkl`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hficma.data.lmdb_files import open_lmdb
from hficma.errors import InputError
from hficma.recipe import PARTITIONS
from hficma.safe_pickle import load_all, loads
from hficma.vectors import WordVectors

from .lmdb_source import leaving_out_bad, recipe_of
from .published import (
    Classes,
    ImageTree,
    SideTable,
    find,
    ingredient_words,
    published_vectors,
    published_words,
    text_table,
)
from .recipe1m import with_category
from .source import Source, SourceRecipe, read_bytes


class Im2RecipeSource(Source):
    """A folder with `train_lmdb`, `val_lmdb`, `test_lmdb` (any of them) and their keys."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._photos = ImageTree(path)

    @classmethod
    def fits(cls, path: Path) -> bool:
        """Whether a split's LMDB and keys are there."""
        return any(cls._split(path, part) for part in PARTITIONS)

    @staticmethod
    def _split(path: Path, part: str) -> tuple[Path, Path] | None:
        store, keys = find(path, f"{part}_lmdb"), find(path, f"{part}_keys.pkl")
        return None if store is None or keys is None else (store, keys)

    def recipes(
        self, *, strict: bool, on_bad: Callable[[str], None], scratch: Path
    ) -> Iterator[SourceRecipe]:
        """See the base."""
        words = published_words(self.path)
        texts = text_table(find(self.path, "layer1.json"), scratch)
        classes = Classes(find(self.path, "classes1M.pkl"))
        for part in PARTITIONS:
            if (split := self._split(self.path, part)) is not None:
                readers = self._readers(part, *split, words, texts, classes)
                yield from leaving_out_bad(readers, strict, on_bad)

    def photo(self, image: str) -> bytes:
        """See the base."""
        return read_bytes(self._photos.find(image))

    def word_vectors(self) -> WordVectors | None:
        """`vocab.bin` or `vocab.pkl`, where one lies beside the LMDBs."""
        return published_vectors(self.path)

    def _readers(
        self,
        part: str,
        store: Path,
        keys: Path,
        words: tuple[str, ...],
        texts: SideTable | None,
        classes: Classes,
    ) -> Iterator[Callable[[], SourceRecipe]]:
        (identities,) = load_all(keys)[:1]
        if not isinstance(identities, list):
            raise InputError(f"{keys}: holds no list of recipe ids")
        environment = open_lmdb(store)
        with environment.begin() as transaction:
            for key in identities:
                identity = key.decode("latin1") if isinstance(key, bytes) else str(key)
                value = transaction.get(identity.encode("latin1", errors="replace"))
                where = f"{store} recipe {identity}"
                yield partial(self._read, identity, part, value, where, words, texts, classes)

    def _read(
        self,
        identity: str,
        part: str,
        value: bytes | None,
        where: str,
        words: tuple[str, ...],
        texts: SideTable | None,
        classes: Classes,
    ) -> SourceRecipe:
        if value is None:
            raise InputError(f"{where}: the keys name it, the LMDB does not hold it")
        record: Any = loads(value, name=where)
        try:
            names = ingredient_words(record["ingrs"], words)
            # `intrs` is the field's published spelling.
            vectors = np.ascontiguousarray(record["intrs"], dtype=np.float32)
            images = tuple(str(image["id"]) for image in record["imgs"])
            category = classes.name(int(record["classes"]) - 1)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where}: is no im2recipe record ({error!r})") from error
        if vectors.ndim != 2:
            raise InputError(f"{where}: its sentence vectors have shape {vectors.shape}")
        return SourceRecipe(
            recipe=with_category(recipe_of(identity, part, names, texts, where), category),
            images=images if self._photos else (),
            names=names,
            sentences=vectors,
        )
