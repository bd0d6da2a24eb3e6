"""The records of a shard: an SQLite file, which the standard library reads.

Beside the recipes it holds every word of their ingredient lines, so that "without peanut" is a
look-up, whatever the size of the index.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hficma.artifacts.closing import Closing
from hficma.recipe import Recipe
from hficma.text.inflection import RULES, folded_label, folded_words, singular
from hficma.types import Positions

from ..files.checksums import CheckedFile
from ..files.record_file import RecordFile, row_checksum
from .word_table import WordTable, clauses, contains, respelled

FILE = "records.sqlite"
_BATCH = 500
"""Values of one statement: every build of SQLite takes at least 999."""

_SCHEMA = """
CREATE TABLE items (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
                    category TEXT, partition TEXT, record TEXT NOT NULL,
                    checksum INTEGER NOT NULL);
"""
_INDEXES = """
CREATE INDEX items_category ON items (category);
CREATE INDEX items_partition ON items (partition);
"""

Label = Literal["category", "partition"]
"""A column of labels that filters compare."""


class RecordWriter:
    """Writes the records of a shard, in the order of its items."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        # A shard is built beside its place and renamed: its own journal would be waste.
        self._connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _SCHEMA)
        self._connection.execute("BEGIN")
        self._count = 0
        self._words = WordTable()

    def append(self, recipes: Sequence[Recipe]) -> None:
        """Write the next items' records.

        Args:
            recipes: in the order of the shard's items.
        """
        rows = []
        for recipe in recipes:
            record = json.dumps(recipe.to_json(), ensure_ascii=False)
            partition = recipe.partition or "train"  # as `hficma.data.dataset.positions` reads it
            row = (self._count, recipe.id, recipe.category, partition, record)
            rows.append((*row, row_checksum(*row)))
            self._words.add(self._count, recipe.ingredients)
            self._count += 1
        self._connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Write what is left; the file is complete after this."""
        self._words.write(self._connection)
        self._connection.execute("COMMIT")
        self._connection.executescript(_INDEXES)
        self._connection.close()

    def abandon(self) -> None:
        """Release the file; the shard is thrown away."""
        self._connection.close()


class Records(Closing):
    """The records of a shard, for reading from any thread.

    A recipe's row is compared with its own checksum when it is read. Everything else, which
    filters and look-ups by id read by the thousand, is read after the whole file was compared.

    Args:
        path: of the SQLite file.
        file: its bytes and what to compare them with; None compares nothing.
        rows_checked: whether rows have checksums; those of older versions do not.
    """

    def __init__(
        self, path: Path, file: CheckedFile | None = None, *, rows_checked: bool = False
    ) -> None:
        self._file = RecordFile(path, file)
        self._rows_checked = rows_checked
        self._words_lock = threading.RLock()
        self._forms: Mapping[str, str] | None = None
        self._rebuilt_words: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        with self._words_lock:
            if self._rebuilt_words is not None:
                self._rebuilt_words.close()

    def recipes(self, positions: Iterable[int]) -> dict[int, Recipe]:
        """Return records by position.

        Args:
            positions: of items in the shard.

        Raises:
            ArtifactError: one is missing or not as it was written.
        """
        distinct = set(positions)
        columns = "position, id, category, partition, record"
        columns += ", checksum" if self._rows_checked else ""
        statement = f"SELECT {columns} FROM items WHERE position IN"
        recipes = {}
        for row in self._rows(statement, sorted(distinct), rows_checked=self._rows_checked):
            if self._rows_checked and not _as_written(*row):
                raise self._file.damaged(f"the record at {row[0]} is not as it was written")
            recipes[row[0]] = self._parsed(row[4])
        if missing := distinct - recipes.keys():
            raise self._file.damaged(f"the record at {min(missing)} is missing")
        return recipes

    def ids(self, positions: Iterable[int]) -> dict[int, str]:
        """Return recipe ids by position; positions that the shard lacks are left out.

        Args:
            positions: of items in the shard.
        """
        return dict(self._rows("SELECT position, id FROM items WHERE position IN", positions))

    def with_ids(self, ids: Iterable[str]) -> dict[str, int]:
        """Return the positions of items by the ids of their recipes.

        Args:
            ids: to look up; those that the shard lacks are left out.
        """
        return dict(self._rows("SELECT id, position FROM items WHERE id IN", ids))

    def with_label(self, column: Label, labels: Sequence[str]) -> Positions:
        """Return positions of items with one of some labels, whatever their case and accents.

        Args:
            column: what the labels are.
            labels: categories or partitions.
        """
        names = {folded_label(label) for label in labels}
        same = [label for label in self.labels(column) if folded_label(label) in names]
        return self._positions(f"SELECT position FROM items WHERE {column} IN", same)

    def labels(self, column: Label) -> list[str]:
        """Return the distinct labels that items have, as written.

        Args:
            column: `category` or `partition`.
        """
        rows = self._file.query(f"SELECT DISTINCT {column} FROM items WHERE {column} IS NOT NULL")
        return [str(label) for (label,) in rows]

    @property
    def outdated(self) -> bool:
        """Return whether other rules wrote its words: filters then read every record."""
        return self._file.query("PRAGMA user_version") != [(RULES,)]

    def with_ingredient(self, ingredient: str) -> Positions:
        """Return positions of items of which a line has the ingredient's words side by side.

        Two words may be written as one and one as two, by spaces and hyphens alone.

        Args:
            ingredient: at least one word, in any spelling that the dictionary knows.
        """
        forms = self._word_forms()
        phrase = [self._form(word, forms) for word in folded_words(ingredient)]
        # The table says which items have all the words; only whether they stand side by side is
        # read in the records themselves.
        matches = self._with_words(phrase)
        if matches and len(phrase) > 1:
            matches = {
                position
                for position, recipe in self.recipes(matches).items()
                if any(contains(line, phrase, forms) for line in recipe.ingredients)
            }
        # "chickpea" is "chick peas" with others, "corn starch" "cornstarch".
        for spelling in respelled(phrase, forms):
            more = self._with_words(spelling) - matches
            if more and len(spelling) > 1:
                more = {
                    position
                    for position, recipe in self.recipes(more).items()
                    if any(
                        contains(clause, spelling, forms)
                        for line in recipe.ingredients
                        for clause in clauses(line)
                    )
                }
            matches |= more
        return np.array(sorted(matches), dtype=np.int64)

    def _with_words(self, words: Sequence[str]) -> set[int]:
        """Return positions of items that have all of the words, in any lines."""
        matches: set[int] | None = None
        for word in words:
            rows = self._word_rows("SELECT position FROM ingredient_words WHERE word = ?", [word])
            positions: set[int] = {position for (position,) in rows}
            matches = positions if matches is None else matches & positions
            if not matches:
                break
        return matches or set()

    def word_counts(self) -> dict[str, int]:
        """Return the words of the ingredient lines, and how many items have each."""
        self._word_forms()
        counts = "SELECT word, COUNT(*) FROM ingredient_words GROUP BY word"
        return dict(self._word_rows(counts))

    def _word_forms(self) -> Mapping[str, str]:
        """Return the form of each other spelling; a table of older rules is made anew, in memory.

        An old table has "leaves" under another form than this version looks up, so that "without
        leaves" would let leaves pass. Reading every record instead takes longer, once for each time
        that the file is opened.
        """
        with self._words_lock:
            if self._forms is None:
                if self.outdated:
                    self._rebuild_word_table()
                self._forms = dict(self._word_rows("SELECT form, word FROM word_forms"))
            return self._forms

    def _rebuild_word_table(self) -> None:
        """Make the word table from the records, in memory, by the rules of this version."""
        table = WordTable()
        ((items,),) = self._file.query("SELECT COUNT(*) FROM items")
        for start in range(0, items, _BATCH):
            for position, recipe in self.recipes(range(start, min(items, start + _BATCH))).items():
                table.add(position, recipe.ingredients)
        # Not in the file's own connection, which comes and goes.
        self._rebuilt_words = sqlite3.connect(":memory:", check_same_thread=False)
        table.write(self._rebuilt_words)

    def _word_rows(self, statement: str, values: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """Return rows of the word table, the file's or the rebuilt one."""
        if self._rebuilt_words is None:
            return self._file.query(statement, values)
        with self._words_lock:
            return self._rebuilt_words.execute(statement, values).fetchall()

    def _form(self, word: str, forms: Mapping[str, str]) -> str:
        """Return a folded word's form in the table; the dictionary's where the table lacks it."""
        if word in forms:
            return forms[word]
        rows = self._word_rows("SELECT 1 FROM ingredient_words WHERE word = ? LIMIT 1", [word])
        return word if rows else singular(word)

    def _positions(self, statement: str, values: Iterable[str]) -> Positions:
        """Return the first column of a statement's rows, as `_rows` reads them."""
        return np.array([row[0] for row in self._rows(statement, values)], dtype=np.int64)

    def _rows(
        self,
        statement: str,
        values: Iterable[str] | Iterable[int],
        *,
        rows_checked: bool = False,
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a statement that ends in `IN`, for any number of values."""
        remaining: list[Any] = list(values)
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(remaining), _BATCH):
            batch = remaining[start : start + _BATCH]
            marks = ",".join("?" * len(batch))
            rows += self._file.query(f"{statement} ({marks})", batch, rows_checked=rows_checked)
        return rows

    def _parsed(self, record: Any) -> Recipe:
        """Return a recipe from its JSON; raises an ArtifactError that names the file."""
        try:
            return Recipe.parse(json.loads(record), where=str(self._file.path))
        except (ValueError, TypeError, RecursionError) as error:
            raise self._file.damaged(str(error)) from error


def _as_written(position: Any, *rest: Any) -> bool:
    """Return whether a row's checksum, its last value, is that of the values before it."""
    try:
        return bool(row_checksum(position, *rest[:-1]) == rest[-1])
    except TypeError:  # a damaged header makes bytes of a text
        return False
