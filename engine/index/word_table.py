"""Which items of a shard name which word in their ingredient lines: two tables beside the records.

`ingredient_words` holds each word of an item once, in the one form that filters compare;
`word_forms` the form of each other spelling ("leaves": "leaf"), so that a search compares words as
they were when the shard was written, and needs no dictionary for the words that the shard holds.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hficma.text.inflection import RULES, folded_words, singular

_SCHEMA = """
CREATE TABLE ingredient_words (word TEXT NOT NULL, position INTEGER NOT NULL,
                               PRIMARY KEY (word, position)) WITHOUT ROWID;
CREATE TABLE word_forms (form TEXT PRIMARY KEY, word TEXT NOT NULL) WITHOUT ROWID;
"""

_LEAST_PART = 2
"""Letters of the shortest word that is written as part of another: "oxtail"."""
_CLAUSE_END = re.compile(r"[^\w\s'\u2019\u00ad\u2010\u2011\u0300-\u036f-]|\s[-\u2013]+\s")
"""Whatever parts words, but for apostrophes, hyphens and accents, or a dash between spaces."""


class WordTable:
    """Collects the words of items, and writes them sorted: SQLite then appends to its trees."""

    def __init__(self) -> None:
        self._forms: dict[str, str] = {}
        self._words: list[tuple[str, int]] = []

    def add(self, position: int, lines: Iterable[str]) -> None:
        """Add the words of an item's ingredient lines.

        Args:
            position: of the item.
            lines: as written.
        """
        words = set()
        for form in {form for line in lines for form in folded_words(line)}:
            if (word := self._forms.get(form)) is None:
                word = self._forms[form] = singular(form)
            words.add(word)
        self._words.extend((word, position) for word in words)

    def write(self, connection: sqlite3.Connection) -> None:
        """Write the tables, once."""
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        self._words.sort()
        forms = sorted((form, word) for form, word in self._forms.items() if form != word)
        connection.executemany("INSERT INTO ingredient_words VALUES (?, ?)", self._words)
        connection.executemany("INSERT INTO word_forms VALUES (?, ?)", forms)
        connection.execute(f"PRAGMA user_version = {RULES}")


def contains(line: str, phrase: Sequence[str], forms: Mapping[str, str]) -> bool:
    """Return whether an ingredient line has words side by side.

    Args:
        line: as written, of an item in the table.
        phrase: the words, each in its one form.
        forms: of the table: spelling to form.
    """
    words = [forms.get(form, form) for form in folded_words(line)]
    return any(
        words[start : start + len(phrase)] == list(phrase)
        for start in range(len(words) - len(phrase) + 1)
    )


def respelled(phrase: Sequence[str], forms: Mapping[str, str]) -> Iterator[list[str]]:
    """Yield a phrase with two words written as one, or one as two, in every place.

    Args:
        phrase: words, each in its one form.
        forms: of the table: spelling to form.
    """
    for place, word in enumerate(phrase):
        before, after = list(phrase[:place]), list(phrase[place + 1 :])
        if after:
            joined = word + after[0]
            yield [*before, forms.get(joined, joined), *after[1:]]
        if word.isalpha():
            for cut in range(_LEAST_PART, len(word) - _LEAST_PART + 1):
                first = word[:cut]
                yield [*before, forms.get(first, first), word[cut:], *after]


def clauses(line: str) -> list[str]:
    """Return the parts of a line in which words side by side may be one: "butter, milk" is two."""
    return _CLAUSE_END.split(line)
