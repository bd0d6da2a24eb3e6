"""A report: tables of figures that carry their noise, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from hficma.errors import ArtifactError

FORMAT = 1
FILE = "report.json"


@dataclass(frozen=True)
class Figure:
    """A number and what is known of it."""

    value: float
    """In the column's unit."""
    noise: float = 0.0
    """How far a second run on the same machine may lie from it, over the value."""
    upto: float | None = None
    """Where only bounds are known, the upper one; `value` is the lower."""
    spread: float | None = None
    """Deviation over bags, in the column's unit."""


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
    """In order."""
    rows: tuple[Row, ...]
    """In order."""
    note: str = ""
    """How to read it."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that one run of the benchmark found."""

    title: str
    """In one line."""
    environment: Mapping[str, Any]
    """The machine and the packages."""
    options: Mapping[str, Any]
    """What was asked for, what was chosen, and seeds."""
    headline: tuple[tuple[str, str], ...]
    """The few figures that matter most, as (figure, what it is)."""
    notes: tuple[str, ...]
    """What must be known to read it: items, limits, noise."""
    tables: tuple[Table, ...]
    """In order."""
    seconds: float = 0.0
    """The run took."""
    format: int = field(default=FORMAT)
    """Raised when a reader of the old format could not read the new one."""

    def write(self, path: Path) -> None:
        """As JSON."""
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
        """From what `write` wrote, as JSON values."""
        parts = {
            "tables": tuple(_table(table) for table in record["tables"]),
            "headline": tuple((str(value), str(what)) for value, what in record["headline"]),
            "notes": tuple(record["notes"]),
        }
        return cls(**{**record, **parts})

    def markdown(self) -> str:
        """All of it for a terminal."""
        lines = [f"# {self.title}", ""]
        lines += [f"* {value}: {meaning}" for value, meaning in self.headline]
        lines += ["", *(f"* {note}" for note in self.notes)]
        for table in self.tables:
            lines += ["", f"## {table.title}", "", *markdown_rows(table)]
        return "\n".join(lines) + "\n"

    def table(self, key: str) -> Table | None:
        """The table of a key."""
        return next((table for table in self.tables if table.key == key), None)


def cell_text(figure: Figure | None, column: Column) -> str:
    """A figure as people read it: `12.30`, `61.2 ± 1.4` over bags, `61.2 to 61.9` where bounded."""
    if figure is None:
        return ""
    text = f"{figure.value:,.{column.digits}f}"
    if figure.upto is not None and figure.upto != figure.value:
        text += f" to {figure.upto:,.{column.digits}f}"
    if figure.spread is not None:
        text += f" ± {figure.spread:,.{column.digits}f}"
    return text


def markdown_rows(table: Table) -> list[str]:
    """A table in Markdown, its columns aligned for the eye."""
    header = [table.first, *(column.label for column in table.columns)]
    body = [
        [row.name, *(cell_text(row.cells.get(column.key), column) for column in table.columns)]
        for row in table.rows
    ]
    widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [_line(line, widths) for line in (header, rule, *body)]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return "| " + " | ".join([first, *rest]) + " |"


def _table(record: Mapping[str, Any]) -> Table:
    columns = tuple(Column(**column) for column in record["columns"])
    rows = tuple(
        Row(
            name=row["name"],
            cells={key: Figure(**cell) if cell else None for key, cell in row["cells"].items()},
        )
        for row in record["rows"]
    )
    return Table(**{**record, "columns": columns, "rows": rows})
