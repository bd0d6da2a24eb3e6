"""The reader of each format of recipe files, by the suffix."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .cooklang import read_cooklang
from .csv_table import read_table
from .json_file import read_json
from .recipe_file import RawRecord

PAGES = (".html", ".htm", ".xhtml", ".xht", ".shtml", ".mhtml", ".mht")
"""Web pages, which a worker process reads."""
LINES = (".jsonl", ".ndjson")
"""JSON lines, which are streamed."""

Reader = Callable[[bytes, str], Iterable[RawRecord]]
"""Takes a file's bytes and its name for errors; raises InputError where it can't be read."""

READERS: dict[str, Reader] = {
    ".json": read_json,
    ".jsonld": read_json,
    ".paprikarecipe": read_json,
    ".melarecipe": read_json,
    ".cook": read_cooklang,
    ".csv": read_table,
    ".tsv": read_table,
}
"""The readers by suffix. Pages and JSON lines have none: a worker reads pages, and lines are
streamed."""


def recipe_suffix(name: str) -> str | None:
    """Return the suffix of a file of recipes; None for another file.

    Args:
        name: of the file.

    Returns:
        in lower case, with its dot; that before `.gz`.
    """
    lower = name.lower().removesuffix(".gz")
    dot = lower.rfind(".")
    suffix = lower[dot:] if dot >= 0 else ""
    return suffix if suffix in READERS or suffix in PAGES or suffix in LINES else None
