"""Recipes read from files: one as JSON, or many as JSONL, a record a line.

A line that is no recipe is a `BadRecord` beside the recipes, so that one slip does not cost a
collection, and a file that holds nothing of the kind is still refused. Lines are read one at a time
and to a limit of bytes, whatever the file claims to be.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from ..errors import InputError
from ..limits import open_gzip, open_regular_file, parse_json, read_regular_file, reason
from .field_names import UnknownKeys
from .recipe import Recipe

MAX_LINE_BYTES = 4_000_000
"""Bytes of a line; a longer one is passed over."""
MAX_BAD_AT_START = 10_000
"""Lines without a single recipe after which a file is taken for something else."""


def read_recipe(path: Path) -> Recipe:
    """Read one recipe from a JSON file; its id is the file's name where it carries none.

    Raises:
        InputError: the file cannot be read, or holds no recipe.
    """
    content = read_regular_file(path, what="a recipe as a JSON file")
    if not content.strip():
        raise InputError(f"{path}: the file is empty; it must hold one recipe as a JSON object")
    record = parse_json(content, name=str(path))
    where = str(path)
    return Recipe.parse(record, where=where, default_id=path.stem, unknown=UnknownKeys(where))


def read_jsonl(
    path: Path, *, strict: bool = False, on_bad: Callable[[str], None] | None = None
) -> Iterator[Recipe]:
    """Read recipes from a JSONL file (plain or `.gz`), one object a line.

    Args:
        path: the file; `-` reads standard input.
        strict: raise on the first bad record instead of leaving it out.
        on_bad: called for each record left out, with one line that names the file and line.

    Raises:
        InputError: the file cannot be read, or a record is bad and `strict` is set.
    """
    for recipe in read_jsonl_lines(path):
        if isinstance(recipe, Recipe):
            yield recipe
        elif strict:
            raise recipe
        elif on_bad is not None:
            on_bad(str(recipe))


def read_jsonl_lines(path: Path) -> Iterator[Recipe | BadRecord]:
    """Read a JSONL file line by line: a recipe, or the error that says why a line is none.

    Args:
        path: the file, in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; `-` reads standard
            input.

    Raises:
        InputError: the file itself cannot be read.
    """
    unknown = UnknownKeys(str(path))
    number = 0
    bad_at_start: int | None = 0
    with _open_lines(path) as lines:
        while True:
            try:
                line = lines.readline(MAX_LINE_BYTES + 1)
            except (OSError, EOFError, UnicodeError) as error:
                raise InputError(f"{path}: cannot be read ({reason(error)})") from error
            if not line:
                return
            number += 1
            if not line.strip():
                continue
            where = f"{path} line {number}"
            try:
                if len(line) > MAX_LINE_BYTES:
                    while line and not line.endswith(b"\n"):
                        line = lines.readline(MAX_LINE_BYTES)
                    raise InputError(f"{where}: longer than {MAX_LINE_BYTES} bytes")
                if bad_at_start == 0 and line.strip().removeprefix(codecs.BOM_UTF8) in (b"{", b"["):
                    raise InputError(
                        f"{where}: begins one JSON document over many lines, where each has a "
                        "recipe of its own; name it .json, and: hficma data import"
                    )
                record = parse_json(line, name=where)
                yield Recipe.parse(record, where=where, unknown=unknown)
                bad_at_start = None
            except InputError as error:
                yield BadRecord(where, str(error))
                if bad_at_start is not None:
                    bad_at_start += 1
                    if bad_at_start >= MAX_BAD_AT_START:
                        raise InputError(
                            f"{path}: none of the first {number:,} lines is a recipe; the rest is "
                            "not read"
                        ) from error


class BadRecord(InputError):
    """A line or record that is no recipe.

    Args:
        where: its name ("recipes.jsonl line 7").
        message: its name and what is wrong.
    """

    def __init__(self, where: str, message: str) -> None:
        super().__init__(message)
        self.where = where


class _Recoded:
    """A file of UTF-16 or UTF-32 that is read as lines of UTF-8."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file = io.TextIOWrapper(file, encoding=encoding, newline="\n")

    def readline(self, limit: int) -> bytes:
        return self._file.readline(limit).encode("utf-8", errors="surrogatepass")

    def __enter__(self) -> _Recoded:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _open_lines(path: Path) -> IO[bytes] | _Recoded:
    """Open a file of lines, plain or `.gz`, as UTF-8 whatever its byte order mark says."""
    what = "a JSONL file"
    if str(path) == "-":
        import sys

        file: IO[bytes] = sys.stdin.buffer
    elif path.suffix.lower() == ".gz":
        file = open_gzip(path, what=what)
    else:
        file = open_regular_file(path, what=what)
    if not isinstance(file, io.BufferedReader):
        file = io.BufferedReader(cast(io.RawIOBase, file))
    try:
        start = file.peek(4)[:4]
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from error
    # UTF-32's mark begins with UTF-16's.
    if start in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return _Recoded(file, "utf-32")
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return _Recoded(file, "utf-16")
    return file
