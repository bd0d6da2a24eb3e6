"""A report: tables of figures that carry their noise, as JSON, Markdown and HTML."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

from hficma.artifacts.manifest import write_atomically
from hficma.errors import ArtifactError
from hficma.terminal import TextConsole

FORMAT = 1
FIRST_WIDTH = 30
"""Columns of characters that the names of a table's rows have at least, where they need them."""
BETWEEN_COLUMNS = 3
"""Columns of characters between two columns of a table."""
FILE = "report.json"


@dataclass(frozen=True)
class Figure:
    """A number and what is known of it."""

    value: float
    """In the column's unit."""
    noise: float = 0.0
    """How far a second run on the same machine may lie from it, over the value."""


@dataclass(frozen=True)
class Column:
    """What a table's figures of one kind are."""

    key: str
    """In a row's cells."""
    label: str
    """With the unit."""
    better: Literal["lower", "higher"] | None = None
    """None where neither is: such a column is not compared."""
    digits: int = 1
    """After the point."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing that was measured."""

    name: str
    """Unique in its table."""
    cells: Mapping[str, Figure | None]
    """By column; None or absent where there is nothing to say."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One question and its answer."""

    key: str
    """Unique in its report."""
    title: str
    """The question."""
    first: str
    """What the rows are."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""
    """How to read it."""

    def markdown(self) -> Iterator[str]:
        """Return the table's lines in Markdown."""
        header = [self.first, *(column.label for column in self.columns)]
        rows = [
            [row.name, *(cell_text(row.cells.get(column.key), column) for column in self.columns)]
            for row in self.rows
        ]
        return markdown_table(header, rows)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that one run of the benchmark measured."""

    title: str
    """In one line."""
    environment: Mapping[str, Any]
    """The machine and the packages."""
    options: Mapping[str, Any]
    """Options of the run, what was chosen for those left open, and seeds."""
    headline: tuple[tuple[str, str], ...]
    """The few figures that matter most, as (figure, what it is)."""
    notes: tuple[str, ...]
    """What must be known to read it: items, limits, noise."""
    tables: tuple[Table, ...]
    seconds: float = 0.0
    """The run took."""
    format: int = field(default=FORMAT)
    """Raised when a reader of the old format could not read the new one."""

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read a `report.json`, or the one in a report's directory.

        Raises:
            ArtifactError: there is none, or of another format.
        """
        file = path / FILE if path.is_dir() else path
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            if record["format"] != FORMAT:
                raise ArtifactError(
                    f"{file}: has format {record['format']}, this version reads {FORMAT}"
                )
            return cls.parse(record)
        except OSError as error:
            raise ArtifactError(f"{file}: cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{file}: is no report of the benchmark ({error})") from error

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Report:
        """Return the report that `write` wrote as these JSON values."""
        tables = []
        for table in record["tables"]:
            columns = tuple(Column(**column) for column in table["columns"])
            rows = []
            for row in table["rows"]:
                # Older reports say more of a figure, which no table shows any longer.
                cells = {
                    key: Figure(cell["value"], cell["noise"]) if cell else None
                    for key, cell in row["cells"].items()
                }
                rows.append(Row(name=row["name"], cells=cells))
            tables.append(Table(**{**table, "columns": columns, "rows": tuple(rows)}))
        headline = tuple((str(value), str(what)) for value, what in record["headline"])
        parts = {"tables": tuple(tables), "headline": headline, "notes": tuple(record["notes"])}
        return cls(**{**record, **parts})

    def markdown(self) -> str:
        """Return all of it for a terminal."""
        lines = [f"# {self.title}", ""]
        lines += [f"* {value}: {meaning}" for value, meaning in self.headline]
        lines += ["", *(f"* {note}" for note in self.notes)]
        for table in self.tables:
            lines += ["", f"## {table.title}", "", *table.markdown()]
        return "\n".join(lines) + "\n"

    def table(self, key: str) -> Table | None:
        """Return the table of a key, None where there is none."""
        return next((table for table in self.tables if table.key == key), None)


def cell_text(figure: Figure | None, column: Column) -> str:
    """Format a figure with its column's digits; empty without a figure."""
    return "" if figure is None else f"{figure.value:,.{column.digits}f}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a table's lines in Markdown, aligned for the eye as well; figures to the right."""
    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for line in (header, rule, *rows):
        figures = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        yield "| " + " | ".join([line[0].ljust(widths[0]), *figures]) + " |"


def print_markdown(text: str, console: TextConsole | None = None) -> None:
    """Print Markdown: as it is into a file or a pipe, and on a terminal in tables that fit it.

    Args:
        text: paragraphs, lists and tables.
        console: None takes standard output.
    """
    console = console or TextConsole()
    if not console.is_terminal:
        console.print(text.rstrip(), soft_wrap=True)
        return
    for is_table, group in groupby(text.rstrip().splitlines(), lambda line: line.startswith("|")):
        if is_table:
            header, _, *rows = ([c.strip() for c in line.strip("|").split("|")] for line in group)
            for number, table in enumerate(fitted_tables(header, rows, console.width)):
                if number:
                    console.print()
                console.print(table)
        else:
            for line in group:
                console.print(line.lstrip("# ").replace("**", ""))


def fitted_tables(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> Iterator[RichTable]:
    """Yield a table as one or more that fit a width: columns without room make another, below.

    Args:
        header: labels, which break between words.
        rows: cells; the first of a row is text, which breaks, the others figures, which do not.
        width: columns of characters.
    """
    columns = [[row[place] for row in (header, *rows)] for place in range(len(header))]
    whole = [max(map(len, column)) for column in columns]
    least = [max(_longest_word(label), *map(len, cells)) for label, *cells in columns]
    least[0] = max(min(whole[0], FIRST_WIDTH), _longest_word(header[0]))
    blocks = [[0]]
    for place in range(1, len(header)):
        if sum(least[n] + BETWEEN_COLUMNS for n in blocks[-1]) + least[place] > width:
            blocks.append([0])
        blocks[-1].append(place)
    for block in blocks:
        table = RichTable(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        room = width - sum(least[n] + BETWEEN_COLUMNS for n in block) + BETWEEN_COLUMNS
        for place in block:
            # Given outright: Rich shares room out by its own rules, and cuts what is left over.
            extra = min(room, whole[place] - least[place])
            room -= extra
            justify: Literal["left", "right"] = "right" if place else "left"
            table.add_column(header[place], justify=justify, width=least[place] + extra)
        for row in rows:
            table.add_row(*(row[place] for place in block))
        yield table


def _longest_word(text: str) -> int:
    return max(map(len, text.split()), default=0)


def write_json(file: Path | None, record: Mapping[str, Any]) -> None:
    """Write a benchmark's record where a file was named for it."""
    if file is not None:
        write_atomically(file, json.dumps(record, indent=1).encode() + b"\n")
