"""`hficma bench page-accuracy FOLDER`: how right saved web pages are read.

FOLDER holds pages `NAME.testhtml` beside `NAME.json` with `title`, `ingredients` and
`instructions_list`, as the `tests/test_data` of the recipe-scrapers repository does. A field is
right when its lines are equal up to white space. Two figures a field: by what pages say of
themselves (schema.org), which is what a page of an unknown site gets, and with the layouts of known
sites, which recipe-scrapers was written for with these very pages in view.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from hficma.data.sources.formats.page_worker import page_worker, read_page_file
from hficma.errors import InputError
from hficma.terminal import TextConsole

FIELDS = {"title": "title", "ingredients": "ingredients", "instructions": "instructions_list"}
SECONDS = 30.0
"""Given to a page."""


def page_accuracy(pages: Iterable[Path], *, sites: bool) -> Counter[str]:
    """Return how many pages were read, and of how many each field is right.

    Args:
        pages: each with its `.json` beside it.
        sites: use what is known of the sites' layouts.
    """
    counts: Counter[str] = Counter()
    with page_worker() as worker:
        for page in pages:
            expected = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
            counts["pages"] += 1
            try:
                content = page.read_bytes()
                records, notes = read_page_file(worker, content, page.name, SECONDS, sites=sites)
            except InputError as error:
                records, notes = [], [str(error)]
            if not records:
                counts["named" if notes else "vanished"] += 1
                continue
            counts["imported"] += 1
            for field, key in FIELDS.items():
                value = records[0].fields.get(field) or ""
                counts[field] += _plain(value) == _plain(expected.get(key) or "")
    return counts


def main(
    folder: Annotated[Path, typer.Argument(help="Pages (.testhtml) beside what they say (.json).")],
    every: Annotated[int, typer.Option(min=1, help="Of so many pages take one.")] = 1,
) -> None:
    """Print how many pages are read, and how many of their fields right."""
    pages = [p for p in sorted(folder.rglob("*.testhtml")) if p.with_suffix(".json").exists()]
    if not pages:
        raise InputError(f"{folder}: holds no .testhtml beside a .json")
    for sites in (False, True):
        started = time.monotonic()
        counts = page_accuracy(pages[::every], sites=sites)
        shown = ", ".join(f"{name} {counts[name]}" for name in ("imported", *FIELDS, "vanished"))
        how = "with known sites' layouts" if sites else "schema.org alone"
        TextConsole().print_prose(
            f"{how}: of {counts['pages']} pages: {shown}; {time.monotonic() - started:.0f} s"
        )


def _plain(value: str | list[str]) -> list[str]:
    lines = [value] if isinstance(value, str) else value
    return [plain for line in lines if (plain := " ".join(line.split()))]


if __name__ == "__main__":
    typer.run(main)
