"""What is indexed, cut into chunks: the items that one shard will hold."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from hficma.data.stream import RecipeStream
from hficma.errors import InputError

from ..index.item_encoding import Role

if TYPE_CHECKING:
    from hficma.data.dataset import Dataset
    from hficma.recipe import Recipe

    from ..bundle.bundle import Bundle

IndexInput: TypeAlias = "Dataset | RecipeStream"
"""What can be indexed: a dataset, read in any order, or a stream of recipes, read once."""

SAMPLE_SIZE = 256
"""Recipes that stand for a dataset: enough to tell it from others, read in a moment."""


class Chunk(NamedTuple):
    """The items of one shard."""

    dataset: Dataset
    """Holds the items: the whole dataset, or the part of a stream that is in memory."""
    positions: range
    """Positions of the items in `dataset`."""
    offset: int
    """Items of the input before the first of `dataset`: 0 unless the input is a stream."""
    total: int
    """Items of the whole input; of a stream, those read so far."""

    @property
    def stop(self) -> int:
        """Return the items of the input up to the end of this chunk."""
        return self.offset + self.positions.stop


class ItemSource:
    """A dataset, or a stream of which one chunk after the other is held in memory.

    Args:
        items: what is indexed.
        chunk_size: items a chunk.
    """

    def __init__(self, items: IndexInput, chunk_size: int) -> None:
        self.streamed = isinstance(items, RecipeStream)
        self.name = items.name
        self._chunk_size = chunk_size
        self._parts: Iterator[Dataset]
        if isinstance(items, RecipeStream):
            self._parts = items.parts(chunk_size)
        else:
            self._parts = iter((items,))
        # Read ahead: whether a stream ends within its first chunk decides how it is stored.
        self._first_part = next(self._parts, None)

    @property
    def sample(self) -> Dataset | None:
        """Return what stands for the whole: the dataset, or a stream's first chunk, if any."""
        return self._first_part

    @property
    def count(self) -> int | None:
        """Return how many items there are; None where a stream may go on."""
        if self._first_part is None:
            return 0
        count = len(self._first_part)
        return None if self.streamed and count == self._chunk_size else count

    def chunks(self) -> Iterator[Chunk]:
        """Yield the chunks, once; a stream's next one is read when it is asked for."""
        part, self._first_part = self._first_part, None
        offset = 0
        while part is not None:
            count = len(part)
            for start in range(0, count, self._chunk_size):
                positions = range(start, min(start + self._chunk_size, count))
                yield Chunk(part, positions, offset, offset + count)
            offset += count
            part = None  # let go of it before the next is read: memory holds one of them
            part = next(self._parts, None)


def average_tokens(bundle: Bundle, role: Role, dataset: Dataset) -> float:
    """Return the tokens that an item has on average, from a sample of the dataset.

    Args:
        bundle: of the model that reads the items.
        role: `image` for photos, which all have R regions, or `recipe`.
        dataset: the items.
    """
    if role == "image":
        return float(bundle.facts.regions)
    lengths = [len(bundle.tokenizer(recipe).ingredients) for recipe in _sample(dataset)]
    return float(np.mean(lengths)) if lengths else 0.0


def fingerprint(dataset: Dataset) -> str:
    """Return what tells a dataset from another of its name, from its size and a sample.

    Returns:
        SHA-256, in hexadecimal.
    """
    digest = hashlib.sha256(str(len(dataset)).encode())
    for recipe in _sample(dataset):
        digest.update(json.dumps(recipe.to_json(), sort_keys=True).encode())
    return digest.hexdigest()


def _sample(dataset: Dataset) -> Iterator[Recipe]:
    """Yield up to about `SAMPLE_SIZE` recipes, spread evenly over the dataset."""
    for position in range(0, len(dataset), max(1, len(dataset) // SAMPLE_SIZE)):
        # One that cannot be read is reported when it is its turn to be indexed.
        with contextlib.suppress(InputError):
            yield dataset.recipe(position)
