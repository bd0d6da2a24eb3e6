"""The recipes of a dataset while it is written: Parquet shards, and the sentence vectors' file."""

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
"""Recipes that are decoded together when one is read."""
STATE = "state.json"
PART = ".part"
"""Ends the name of what is being written."""


@dataclass(kw_only=True)
class ImportState:
    """How far the recipes have come; the photos' progress stands in their own store."""

    signature: dict[str, Any]
    """What is imported: a killed import goes on only where this is the same."""
    shards: list[int] = field(default_factory=list)
    """Recipes in each finished shard."""
    sentence_rows: int = 0
    """Sentence vectors that the finished shards have."""
    sentence_dim: int = 0
    """Their width; 0 before the first."""
    left_out: int = 0
    """Bad records."""
    complete: bool = False
    """Whether all recipes are written."""


class RecipeShards:
    """Writes shards one after the other; each counts once its state is on the disk."""

    def __init__(self, building: Path, state: ImportState, max_photos: int) -> None:
        self._building = building
        self._max_photos = max_photos
        self.state = state

    @property
    def recipes(self) -> int:
        """Return recipes in finished shards."""
        return sum(self.state.shards)

    def write(self, shard: list[SourceRecipe], left_out: int) -> None:
        """Add a shard.

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
        """Put the state on the disk."""
        write_atomically(self._building / STATE, json.dumps(asdict(self.state)).encode())

    def column(self, name: str, shard: int | None = None) -> list[Any]:
        """Return a column of one shard, or of all."""
        import pyarrow.parquet as pq

        shards = range(len(self.state.shards)) if shard is None else [shard]
        tables = (pq.read_table(self._building / shard_name(s), columns=[name]) for s in shards)
        return [value for table in tables for value in table.column(name).to_pylist()]

    def write_offsets(self) -> None:
        """Say where each recipe's sentence vectors begin and end."""
        counts = self.column("sentences")
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        np.save(self._building / SENTENCE_OFFSETS, offsets)

    def _append_sentences(self, shard: list[SourceRecipe]) -> None:
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
    """Return columns of a shard of recipes (a pyarrow schema)."""
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
