"""Lists that were written as one text: a cell of a table, a string where JSON has lists.

"flour, eggs", "1 leek|2 eggs", '["1 leek", "2 eggs"]', "['1 leek', '2 eggs']" of Python and
c("1 leek", "2 eggs") of R are each a list of two.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

MAX_LITERAL = 100_000
"""Characters of a text that is read as a list in Python's notation."""
_DIGIT = re.compile(r"\d")
_AMOUNT = re.compile(r"\s*[\d\u00bc-\u00be\u2150-\u215e]")
_IN_NUMBER = re.compile(r"\d,\d")
_R_VECTOR = re.compile(r'c\(\s*".*"\s*\)', re.DOTALL)
_R_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


def list_literal(text: str) -> list[str] | None:
    """Return the items of a list in the notation of JSON, Python or R; None for other texts."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        for read in (json.loads, _python_literal):
            try:
                value = read(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(value, list):
                return [str(item) for item in value if isinstance(item, (str, int, float))]
    if text.startswith("c(") and _R_VECTOR.fullmatch(text):
        return [item.replace('\\"', '"') for item in _R_TEXT.findall(text)]
    return None


def listed_lines(text: str, *, of_ingredients: bool) -> list[str]:
    """Return the lines of a text that may hold several.

    Args:
        text: the whole of a field.
        of_ingredients: they may be parted by semicolons or commas too, which steps contain.
    """
    if (items := list_literal(text)) is not None:
        return items
    lines = text.splitlines()
    if len(lines) != 1:
        return lines
    if "|" in text:
        return text.split("|")
    if of_ingredients and ";" in text:
        return text.split(";")
    if of_ingredients and "," in text:
        parts = list(parted(text))
        # "flour, eggs" and "1 leek, 2 eggs" are two; "1 onion, chopped" one.
        if len(parts) > 2 or not _DIGIT.search(text) or any(map(_AMOUNT.match, parts[1:])):
            return parts
    return [text]


def parted(text: str, marks: str = ",") -> Iterator[str]:
    """Yield what stands between marks that are neither in brackets nor in a number ("1,5 kg")."""
    start = depth = 0
    for place, character in enumerate(text):
        if character in "([":
            depth += 1
        elif character in ")]":
            depth = max(0, depth - 1)
        elif character in marks and not depth and not _IN_NUMBER.match(text, max(0, place - 1)):
            yield text[start:place]
            start = place + 1
    yield text[start:]


def _python_literal(text: str) -> Any:
    """Read a value in Python's notation, of a text that is no longer than its parser can take."""
    if len(text) > MAX_LITERAL:
        raise ValueError("too long")
    return ast.literal_eval(text)
