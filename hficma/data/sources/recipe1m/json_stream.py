"""Reads a JSON list object by object, so that a file of gigabytes needs no gigabytes of memory.

`layer1.json` is one list of a million recipes, of which `json.load` would make objects of many
times its size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ....errors import InputError

CHUNK = 1 << 18
"""Characters that are read at once."""
MAX_OBJECT = 8_000_000
"""Characters of one object; a recipe has a few thousand."""


def read_json_list(
    path: Path, on_bad: Callable[[str], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file that is one JSON list.

    Args:
        path: the file.
        on_bad: called with one line for each thing in the list that is no object, which is passed
            over; without it, that is an error.

    Raises:
        InputError: the file cannot be read, is no list, or holds something else than objects.
    """
    decode = json.JSONDecoder().raw_decode
    try:
        with path.open(encoding="utf-8") as file:
            text, start, number = file.read(CHUNK).lstrip("\ufeff \t\r\n"), 1, 0
            if not text.startswith("["):
                raise InputError(f"{path}: is no JSON list")
            while True:
                # text[start:] is what has been read and not decoded; more is read behind it until
                # it begins with a whole value. Reading as much as is waiting doubles it each time,
                # so a large object is not decoded again for every chunk.
                start = _skip(text, start)
                if start < len(text) and text[start] == "]":
                    return
                try:
                    value, end = decode(text, start)
                    if end == len(text):  # a number may go on behind the chunk
                        raise json.JSONDecodeError("at the chunk's end", text, end)
                except json.JSONDecodeError as error:
                    more = file.read(max(CHUNK, len(text) - start))
                    if not more or len(text) - start > MAX_OBJECT:
                        where = f"{path} record {number + 1}"
                        raise InputError(f"{where}: is not valid JSON ({error.msg})") from error
                    text, start = text[start:] + more, 0
                    continue
                number += 1
                start = end
                if isinstance(value, dict):
                    yield value
                elif on_bad is None:
                    raise InputError(f"{path} record {number}: is no JSON object")
                else:
                    on_bad(f"{path} record {number}: is no JSON object")
    except (OSError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from error


def _skip(text: str, start: int) -> int:
    """Return the first place from `start` on that is no space or comma."""
    while start < len(text) and text[start] in " \t\r\n,":
        start += 1
    return start
