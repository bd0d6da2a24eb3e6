"""Stores the recipes of a dataset that is being imported: Parquet shards, and sentence vectors.

Parquet holds text compressed and by columns, so a partition or a title is read of all recipes
without their instructions. Sentence vectors are floats of no use to a column store: they are
appended to one ragged file (see `layout.py`), which a reader maps.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...artifacts.manifest import sync, write_atomically
from ...errors import InputError
from ..layout import SENTENCE_OFFSETS, SENTENCES, shard_name
from ..sources import SourceRecipe

ROW_GROUP = 256
"""Recipes that are decoded together when one is read: more compress better, fewer are read
faster."""
STATE = "state.json"
"""The state of an unfinished import; removed at its end."""
PART = ".part"
"""Ends the name of a file that is being written."""


@dataclass(kw_only=True)
class ImportState:
    """The progress of an import's recipes; that of its photos is in their own store."""

    signature: dict[str, Any]
    """Of the source and the options: a killed import goes on only where it is the same."""
    shards: list[int] = field(default_factory=list)
    """The number of recipes in each finished shard."""
    sentence_rows: int = 0
    """The number of sentence vectors of the finished shards."""
    sentence_dim: int = 0
    """The width D_s of a sentence vector; 0 before the first."""
    left_out: int = 0
    """The number of bad records so far."""
    complete: bool = False
    """Whether all recipes are written."""


class RecipeShards:
    """Writes shards one after the other; each counts once its state is on the disk.

    Args:
        building: the unfinished directory.
        state: of the import; written on.
        max_photos: names of photos of one recipe that are recorded.
    """

    def __init__(self, building: Path, state: ImportState, max_photos: int) -> None:
        self._building = building
        self._max_photos = max_photos
        self.state = state

    @property
    def recipes(self) -> int:
        """Return the number of recipes in finished shards."""
        return sum(self.state.shards)

    def write(self, shard: list[SourceRecipe], left_out: int) -> None:
        """Write a shard.

        Args:
            shard: its recipes.
            left_out: the number of bad records so far.

        Raises:
            InputError: its sentence vectors have another width than those before.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [_row(source_recipe, self._max_photos) for source_recipe in shard]
        path = self._building / shard_name(len(self.state.shards))
        part = path.with_suffix(PART)
        table = pa.Table.from_pylist(rows, schema=recipe_schema())
        pq.write_table(table, part, row_group_size=ROW_GROUP, compression="zstd")
        self._append_sentences(shard)
        # The state counts the shard, so its rows must be on the disk before.
        sync(part)
        os.replace(part, path)
        sync(self._building)
        self.state.shards.append(len(shard))
        self.state.left_out = left_out
        self.save_state()

    def save_state(self) -> None:
        """Write the state to the disk."""
        write_atomically(self._building / STATE, json.dumps(asdict(self.state)).encode())

    def column(self, name: str, shard: int | None = None) -> list[Any]:
        """Return a column of one shard, or of all.

        Args:
            name: as in `recipe_schema`.
            shard: its number; None reads all.
        """
        import pyarrow.parquet as pq

        shards = range(len(self.state.shards)) if shard is None else [shard]
        tables = (pq.read_table(self._building / shard_name(s), columns=[name]) for s in shards)
        return [value for table in tables for value in table.column(name).to_pylist()]

    def write_offsets(self) -> None:
        """Write where each recipe's sentence vectors begin and end: int64 (M + 1,)."""
        counts = self.column("sentences")
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        np.save(self._building / SENTENCE_OFFSETS, offsets)

    def _append_sentences(self, shard: list[SourceRecipe]) -> None:
        """Append the sentence vectors of a shard's recipes to the ragged file."""
        path = self._building / SENTENCES
        path.touch()
        state = self.state
        with path.open("r+b") as file:
            # A killed import may have left rows of a shard that it did not finish.
            file.truncate(state.sentence_rows * state.sentence_dim * 4)
            file.seek(0, os.SEEK_END)
            for source_recipe in shard:
                if source_recipe.sentences is None or not len(source_recipe.sentences):
                    continue
                rows, dim = source_recipe.sentences.shape
                state.sentence_dim = state.sentence_dim or dim
                if dim != state.sentence_dim:
                    raise InputError(
                        f"recipe {source_recipe.recipe.id} has sentence vectors of {dim}, "
                        f"others of {state.sentence_dim}"
                    )
                file.write(source_recipe.sentences.astype("<f4").tobytes())
                state.sentence_rows += rows
            file.flush()
            os.fsync(file.fileno())


def recipe_schema() -> Any:
    """Return the columns of a shard of recipes, a pyarrow schema.

    `sentences` is the number of a recipe's sentence vectors, `names` its detected ingredient names.
    """
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    return pa.schema(
        [
            ("id", text), ("title", text), ("ingredients", texts), ("instructions", texts),
            ("partition", text), ("url", text), ("category", text),
            ("images", texts), ("names", texts), ("sentences", pa.int32()),
        ]
    )  # fmt: skip


def _row(source_recipe: SourceRecipe, max_photos: int) -> dict[str, Any]:
    """Return a recipe as a row of `recipe_schema`."""
    recipe = source_recipe.recipe
    return {
        "id": recipe.id,
        "title": recipe.title,
        "ingredients": recipe.ingredients,
        "instructions": recipe.instructions,
        "partition": recipe.partition,
        "url": recipe.url,
        "category": recipe.category,
        "images": source_recipe.images[:max_photos],
        "names": source_recipe.names,
        "sentences": 0 if source_recipe.sentences is None else len(source_recipe.sentences),
    }
