"""Reads CSV and TSV with named columns: of a spreadsheet, a recipe manager or a data set."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

from ....errors import InputError
from ....limits import LINE_BYTES
from ....recipe.field_names import field_of, plain_key
from ....recipe.markup import plain_lines, plain_text
from ....recipe.text_lists import listed_lines
from .recipe_file import RawRecord
from .text_file import decode_text

DELIMITERS = ",;\t|"
"""The usual ones first: of two that are as frequent, the first is taken."""
_LINE_TAG = re.compile(r"<(?:br|li|p|div)\b", re.IGNORECASE)
_NUMBERED = re.compile(r"(ingredient|step|instruction|direction)s?(\d+)$")


def read_table(content: bytes, name: str) -> Iterator[RawRecord]:
    """Yield the recipes of a table, a row each, or why a row is none.

    The first row names the columns, by a field's own name or another usual one; ingredients and
    steps stand in one cell (a line each, parted by "|" or ";", or a list in the notation of JSON,
    Python or R) or in numbered columns.

    Args:
        content: the file's bytes.
        name: of the file, for errors.

    Raises:
        InputError: no column names ingredients.
    """
    text = decode_text(content)
    # Excel reads and writes a first line "sep=;" that names the delimiter.
    hint = re.match(r"sep=(.)\r?\n", text)
    text = text[hint.end() :] if hint else text
    # The csv module's own limit is for the whole process, and low for a cell of steps.
    csv.field_size_limit(LINE_BYTES)
    rows = csv.reader(
        io.StringIO(text, newline=""), delimiter=hint[1] if hint else _delimiter(text)
    )
    try:
        # Spreadsheets leave empty rows above their tables.
        columns = [column.strip() for column in next(filter(any, rows), [])]
        if "ingredients" not in [field_of(_listed(column)) for column in columns]:
            raise InputError(
                f"{name}: no column is called ingredients; its columns are "
                f"{', '.join(columns)[:300]!r}"
            )
        for row in filter(any, rows):
            if any(row[len(columns) :]):
                # A comma without quotes has moved what follows it into other columns.
                yield RawRecord(
                    fields={},
                    error=f"{name} line {rows.line_num}: has more cells than the table has "
                    "columns; put cells that hold the delimiter into quotes",
                )
            else:
                yield RawRecord(fields=_record(columns, row))
    except csv.Error as error:
        raise InputError(f"{name} line {rows.line_num}: is no CSV ({error})") from error


def _delimiter(text: str) -> str:
    """Return the delimiter that the line of column names has most of, outside of quotes."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    plain = re.sub(r'"[^"]*"', "", first)
    return max(DELIMITERS, key=lambda mark: (plain.count(mark), -DELIMITERS.index(mark)))


def _listed(column: str) -> str:
    """Return `ingredients` of "Ingredient 3"."""
    numbered = _NUMBERED.match(plain_key(column))
    return numbered[1] + "s" if numbered else column


def _record(columns: list[str], row: list[str]) -> dict[str, Any]:
    """Return a row's cells by their columns, those of several lines as lists."""
    record: dict[str, Any] = {}
    for column, cell in zip(columns, row, strict=False):
        cell, listed = cell.strip(), _listed(column)
        if not column or not cell:
            continue
        field = field_of(listed)
        if field not in ("ingredients", "instructions"):
            record[column] = plain_text(cell) if field in ("title", "category") else cell
        elif listed != column:
            record.setdefault(listed, []).append(plain_text(cell))
        else:
            lines = _lines(cell, of_ingredients=field == "ingredients")
            record[column] = [plain for line in lines if (plain := plain_text(line))]
    return record


def _lines(cell: str, *, of_ingredients: bool) -> list[str]:
    """Return the lines of a cell that holds several."""
    if _LINE_TAG.search(cell):  # exported from a site, with its tags
        return list(plain_lines(cell))
    # Plan to Eat writes a section's head as a line that begins with a comma.
    lines = listed_lines(cell, of_ingredients=of_ingredients)
    return [line for line in lines if len(lines) == 1 or not line.startswith(",")]
