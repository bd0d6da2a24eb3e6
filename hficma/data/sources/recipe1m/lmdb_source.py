"""Makes recipes of the records of both kinds of published LMDBs.

They hold ingredient ids and sentence vectors, no text. Where `layer1.json` lies beside, it gives
the text; otherwise a recipe has its id and the names of its ingredients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ....errors import InputError
from ....recipe import Recipe
from ..source import SourceRecipe
from .layers import with_category
from .published_files import Classes, LayerTable, layer1_recipe
from .published_vocabulary import PublishedWords, VocabularyError
from .untrusted_reader import Record, Values


class PublishedText:
    """Makes recipes of ingredient ids, sentence vectors and class numbers.

    Args:
        words: the names of ingredient ids.
        texts: entries of `layer1.json` by recipe id, where that lies beside the LMDBs.
        classes: the names of class numbers.
    """

    def __init__(self, words: PublishedWords, texts: LayerTable | None, classes: Classes) -> None:
        self._words = words
        self._texts = texts
        self._classes = classes

    def recipes(
        self,
        records: Iterable[Values | Record],
        *,
        partition: str,
        where: str,
        images: Callable[[list[Any]], tuple[str, ...]],
        strict: bool,
        on_bad: Callable[[str], None],
    ) -> Iterator[SourceRecipe]:
        """Yield the recipes of one split; a bad record is reported and left out.

        Args:
            records: of `untrusted_reader`.
            partition: the split's.
            where: how to name it in an error.
            images: turns a record's images into arguments of `Source.photo`.
            strict: raise at a bad record instead.
            on_bad: called with one line for each.

        Raises:
            VocabularyError: an ingredient's id is past the vocabulary's end.
        """
        for record in records:
            try:
                if not isinstance(record, tuple):
                    raise InputError(record["error"])
                yield self._recipe(record, partition, where, images)
            except VocabularyError:  # of all records, not of this one
                raise
            except InputError as error:
                if strict:
                    raise
                on_bad(str(error))

    def _recipe(
        self,
        record: Record,
        partition: str,
        where: str,
        images: Callable[[list[Any]], tuple[str, ...]],
    ) -> SourceRecipe:
        values, content = record
        where = f"{where} recipe {values['id']}"
        names = self._words.names(values["ingredients"], where)
        vectors = np.frombuffer(content, dtype="<f4").reshape(values["rows"], values["dim"])
        recipe = self._text(values["id"], partition, names, where)
        return SourceRecipe(
            recipe=with_category(recipe, self._classes.name(values["class"])),
            images=images(values["images"]),
            names=names,
            sentences=vectors if len(vectors) else None,
        )

    def _text(self, identity: str, partition: str, names: tuple[str, ...], where: str) -> Recipe:
        """Return the recipe of `layer1.json` where there is one, else of the ingredient names."""
        entry = self._texts.get(identity) if self._texts else None
        if entry is not None:
            return layer1_recipe(entry, where)
        record = {"id": identity, "ingredients": list(names), "partition": partition}
        return Recipe.parse(record, where=where)
