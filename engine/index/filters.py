"""Which items may answer: applied before the search, never by throwing answers away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

import numpy as np

from hficma.errors import InputError
from hficma.text.inflection import folded_words
from hficma.types import Mask, Positions

from .records import Records

CACHED_FILTERS = 16
"""Filters of which is remembered what follows from them, such as masks."""

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What an item must have and must not have; an empty field asks nothing.

    An ingredient matches where a line of the recipe has its words side by side, in singular or
    plural, whatever their case and accents (`text.inflection`): `peanut` matches "2 tbsp peanut
    butter" and "salted Peanuts", `creme fraiche` "crème fraîche". Two words may be written as one:
    `chickpea` matches "chick peas", `corn starch` "cornstarch". Otherwise whole words are compared:
    `nut` matches neither "nutmeg" nor "walnuts". Categories and partitions too ignore case and
    accents.
    """

    having: tuple[str, ...] = ()
    """Ingredients, all of which must be in the recipe."""
    without: tuple[str, ...] = ()
    """Ingredients, none of which may be in the recipe."""
    categories: tuple[str, ...] = ()
    """Classes, one of which must be the item's."""
    without_categories: tuple[str, ...] = ()
    """Classes, none of which may be the item's."""
    partitions: tuple[str, ...] = ()
    """Partitions, one of which must be the item's."""
    without_partitions: tuple[str, ...] = ()
    """Partitions, none of which may be the item's."""
    ids: tuple[str, ...] = ()
    """Ids, one of which must be the item's."""
    without_ids: tuple[str, ...] = ()
    """Ids, none of which may be the item's."""

    def __post_init__(self) -> None:
        for ingredient in (*self.having, *self.without):
            if not folded_words(ingredient):
                raise InputError(f"filter {ingredient!r}: holds no word; name an ingredient")

    def __bool__(self) -> bool:
        """Return whether any field asks for something."""
        return any(getattr(self, field.name) for field in fields(self))

    def mask(self, records: Records, count: int) -> Mask:
        """Return which of a shard's items pass, (count,).

        Args:
            records: of the shard.
            count: its items.
        """
        mask = np.ones(count, dtype=bool)

        def keep(positions: Positions) -> None:
            """Let only these items pass, of those that pass so far."""
            matches = np.zeros(count, dtype=bool)
            matches[positions] = True
            np.logical_and(mask, matches, out=mask)

        for ingredient in self.having:
            keep(records.with_ingredient(ingredient))
        for ingredient in self.without:
            mask[records.with_ingredient(ingredient)] = False
        if self.categories:
            keep(records.with_label("category", self.categories))
        if self.without_categories:
            mask[records.with_label("category", self.without_categories)] = False
        if self.partitions:
            keep(records.with_label("partition", self.partitions))
        if self.without_partitions:
            mask[records.with_label("partition", self.without_partitions)] = False
        if self.ids:
            keep(np.array(list(records.with_ids(self.ids).values()), dtype=np.int64))
        if self.without_ids:
            mask[list(records.with_ids(self.without_ids).values())] = False
        return mask


class FilterCache(Generic[Value]):
    """What follows from the last few filters; any number of threads may share it."""

    def __init__(self) -> None:
        self._values: dict[Filter | None, Value] = {}

    def get(self, filter: Filter | None, compute: Callable[[Filter | None], Value]) -> Value:
        """Return what follows from a filter, computed unless it is remembered.

        Args:
            filter: which items may answer.
            compute: called with the filter; never returns None.
        """
        # Without a lock: two threads with a new filter both compute the same.
        value = self._values.get(filter)
        if value is None:
            value = compute(filter)
            # A mask has a byte an item: it is forgotten, not kept for ever.
            if len(self._values) >= CACHED_FILTERS:
                self._values.clear()
            self._values[filter] = value
        return value

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()
