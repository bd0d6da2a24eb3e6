"""What is indexed, cut into pieces of a shard each."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from hficma.data.stream import RecipeStream
from hficma.errors import InputError

from ..index.item_encoding import Role
from ..index.shard import Shard
from ..index.shard_facts import ShardFacts
from .encoding_pipeline import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from hficma.data.dataset import Dataset
    from hficma.recipe import Recipe

    from ..bundle.bundle import Bundle

Indexed: TypeAlias = "Dataset | RecipeStream"
COMPARED_TOGETHER = 1024
SAMPLED = 256
"""Recipes that stand for a dataset."""


class Piece(NamedTuple):
    """The items of one shard."""

    dataset: Dataset
    """Holds them."""
    wanted: range
    """Their positions there."""
    first: int
    """Items that came before the dataset's first."""
    total: int
    """Items in all, or of a stream so far."""

    @property
    def stop(self) -> int:
        """Items up to the end of this piece."""
        return self.first + self.wanted.stop

    def telling(self, progress: Progress) -> Callable[[int], None]:
        """What is told how far in the dataset the writing is."""
        return lambda done: progress(self.first + done, self.total)

    def changed(self, shard: Path) -> str | None:
        """The id of the first item of a finished shard that is not this piece's, if there is one.

        Every record is compared: to read one costs a thousandth of encoding it, and a line that
        was mended meanwhile would otherwise stay in the index as it was.
        """
        if not ShardFacts.read(shard).count:
            return None
        with Shard(shard) as opened:
            numbers = (opened.numbers - self.first).tolist()
            for start in range(0, opened.count, COMPARED_TOGETHER):
                places = range(start, min(start + COMPARED_TOGETHER, opened.count))
                for place, stored in opened.records.recipes(places).items():
                    if not self._holds(stored, numbers[place]):
                        return stored.id
        return None

    def reaches(self, shard: Path) -> bool:
        """Whether a finished shard goes as far as this piece.

        Where a stream had ended, it may go on now; what was its last shard is made again then.
        """
        if not ShardFacts.read(shard).count:
            return False
        with Shard(shard) as opened:
            return int(opened.numbers[-1]) == self.stop - 1

    def _holds(self, recipe: Recipe, position: int) -> bool:
        try:
            return position in self.wanted and self.dataset.recipe(position) == recipe
        except InputError:
            return False


class Source:
    """A dataset, or a stream of which one piece after the other is held.

    Args:
        indexed: what is indexed.
        size: items a piece.
    """

    def __init__(self, indexed: Indexed, size: int) -> None:
        self.streamed = isinstance(indexed, RecipeStream)
        self.name = indexed.name
        self._size = size
        self._parts: Iterator[Dataset]
        if isinstance(indexed, RecipeStream):
            self._parts = indexed.parts(size)
        else:
            self._parts = iter((indexed,))
        self._head = next(self._parts, None)

    @property
    def sample(self) -> Dataset | None:
        """What tells of the whole: the dataset, or a stream's first piece; None of nothing."""
        return self._head

    @property
    def count(self) -> int | None:
        """Items in all; None where a stream may go on."""
        if self._head is None:
            return 0
        count = len(self._head)
        return None if self.streamed and count == self._size else count

    def pieces(self) -> Iterator[Piece]:
        """The pieces, once; a stream's next one is read when it is asked for."""
        part, self._head = self._head, None
        first = 0
        while part is not None:
            count = len(part)
            for start in range(0, count, self._size):
                wanted = range(start, min(start + self._size, count))
                yield Piece(part, wanted, first, first + count)
            first += count
            part = None
            part = next(self._parts, None)


def average_tokens(bundle: Bundle, role: Role, dataset: Dataset) -> float:
    """Tokens an item has on average, from items spread over the dataset."""
    if role == "image":
        return float(bundle.facts["regions"])
    lengths = [len(bundle.tokenizer(recipe).ingredients) for recipe in _spread(dataset)]
    return float(np.mean(lengths)) if lengths else 0.0


def fingerprint(dataset: Dataset) -> str:
    """What tells a dataset from another of its name: its size, and items spread over it."""
    digest = hashlib.sha256(str(len(dataset)).encode())
    for recipe in _spread(dataset):
        digest.update(json.dumps(recipe.to_json(), sort_keys=True).encode())
    return digest.hexdigest()


def _spread(dataset: Dataset) -> Iterator[Recipe]:
    """Up to some hundred recipes of all its parts."""
    for position in range(0, len(dataset), max(1, len(dataset) // SAMPLED)):
        # What cannot be read is told when it is its turn.
        with contextlib.suppress(InputError):
            yield dataset.recipe(position)
