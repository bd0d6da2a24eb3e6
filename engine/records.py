"""The records of a shard: an SQLite file, which the standard library reads.

Beside the recipes it holds every word of their ingredient lines, so that "without peanut" is a
look-up, whatever the size of the index.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hficma.errors import ArtifactError
from hficma.recipe import Recipe
from hficma.words import words

FILE = "records.sqlite"
_BATCH = 500  # SQLite's builds take at least 999 variables

_SCHEMA = """
CREATE TABLE items (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
                    category TEXT, partition TEXT, record TEXT NOT NULL);
CREATE TABLE ingredient_words (word TEXT NOT NULL, position INTEGER NOT NULL,
                               PRIMARY KEY (word, position)) WITHOUT ROWID;
"""
_INDEXES = """
CREATE INDEX items_category ON items (category);
CREATE INDEX items_partition ON items (partition);
"""

Positions = npt.NDArray[np.int64]


def singular(word: str) -> str:
    """A word as filters compare it: "peanuts" and "peanut", "berries" and "berry" are one."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("oes", "ches", "shes", "sses", "xes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def ingredient_words(line: str) -> list[str]:
    """The words of an ingredient line, in order, as filters compare them."""
    return [singular(word) for word in words(line)]


def contains(line: str, wanted: Sequence[str]) -> bool:
    """Whether an ingredient line has the given words side by side."""
    present = ingredient_words(line)
    return any(
        present[start : start + len(wanted)] == list(wanted)
        for start in range(len(present) - len(wanted) + 1)
    )


class RecordWriter:
    """Writes the records of a shard, in the order of its items."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        # A shard is built beside its place and renamed: its own journal would be waste.
        self._connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _SCHEMA)
        self._connection.execute("BEGIN")
        self._count = 0
        self._words: list[tuple[str, int]] = []

    def append(self, recipes: Sequence[Recipe]) -> None:
        """Write the next items' records."""
        rows = []
        for recipe in recipes:
            record = json.dumps(recipe.to_json(), ensure_ascii=False)
            partition = recipe.partition or "train"  # as `hficma.data.dataset.positions` reads it
            rows.append((self._count, recipe.id, recipe.category, partition, record))
            present = {word for line in recipe.ingredients for word in ingredient_words(line)}
            self._words.extend((word, self._count) for word in present)
            self._count += 1
        self._connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Write what is left; the file is whole after this."""
        # Sorted, SQLite appends instead of searching the tree for each.
        self._words.sort()
        self._connection.executemany("INSERT INTO ingredient_words VALUES (?, ?)", self._words)
        self._connection.execute("COMMIT")
        self._connection.executescript(_INDEXES)
        self._connection.close()

    def abandon(self) -> None:
        """Let go of the file; the shard is thrown away."""
        self._connection.close()


class Records:
    """The records of a shard, for reading from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        if not path.is_file():
            raise ArtifactError(f"{path}: is missing; make the index again")
        self._connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def recipes(self, positions: Iterable[int]) -> dict[int, Recipe]:
        """Records by position."""
        rows = self._rows("SELECT position, record FROM items WHERE position IN", positions)
        where = str(self._path)
        return {
            int(position): Recipe.parse(json.loads(record), where=where)
            for position, record in rows
        }

    def ids(self, positions: Iterable[int]) -> dict[int, str]:
        """Recipe ids by position."""
        return dict(self._rows("SELECT position, id FROM items WHERE position IN", positions))

    def with_ids(self, ids: Iterable[str]) -> dict[str, int]:
        """Positions of the ids that the shard holds."""
        return dict(self._rows("SELECT id, position FROM items WHERE id IN", ids))

    def with_category(self, categories: Sequence[str]) -> Positions:
        """Positions of items of one of the classes."""
        return self._positions("SELECT position FROM items WHERE category IN", categories)

    def with_partition(self, partitions: Sequence[str]) -> Positions:
        """Positions of items in one of the partitions."""
        return self._positions("SELECT position FROM items WHERE partition IN", partitions)

    def with_ingredient(self, ingredient: str) -> Positions:
        """Positions of items of which a line has the ingredient's words side by side."""
        wanted = ingredient_words(ingredient)
        found: set[int] | None = None
        for word in wanted:
            rows = self._rows("SELECT position FROM ingredient_words WHERE word IN", [word])
            positions: set[int] = {position for (position,) in rows}
            found = positions if found is None else found & positions
        if found and len(wanted) > 1:
            found = {
                position
                for position, recipe in self.recipes(found).items()
                if any(contains(line, wanted) for line in recipe.ingredients)
            }
        return np.array(sorted(found or ()), dtype=np.int64)

    def _positions(self, statement: str, values: Iterable[str]) -> Positions:
        return np.array([row[0] for row in self._rows(statement, values)], dtype=np.int64)

    def _rows(self, statement: str, values: Iterable[str] | Iterable[int]) -> list[tuple[Any, ...]]:
        wanted = list(values)
        rows: list[tuple[Any, ...]] = []
        try:
            with self._lock:
                for start in range(0, len(wanted), _BATCH):
                    part = wanted[start : start + _BATCH]
                    marks = ",".join("?" * len(part))
                    rows += self._connection.execute(f"{statement} ({marks})", part).fetchall()
        except sqlite3.DatabaseError as error:
            raise ArtifactError(f"{self._path}: is damaged ({error}); make it again") from error
        return rows
