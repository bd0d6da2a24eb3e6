"""What a recipe is: reading, checking and writing one."""

from __future__ import annotations

import codecs
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

from ..errors import InputError
from ..limits import open_gzip, open_regular_file, parse_json, read_regular_file, reason
from .field_names import (
    FIELDS,
    UnknownKeys,
    address_of,
    ingredient_lines,
    known_fields,
    nearest_field,
    step_lines,
    text_of,
)
from .text_lists import listed_lines

MAX_INGREDIENTS = 200  # more is not a recipe but a file gone wrong
MAX_LINE_BYTES = 4_000_000
_FIELD_SET = frozenset(FIELDS)
_SURROGATES = re.compile("[\ud800-\udfff]")
PARTITIONS = ("train", "val", "test")
MAX_BAD_AT_START = 10_000
"""Lines without a single recipe after which a file is taken for something else."""
CONTENT_ID_DIGITS = 16
"""64 bits: two of ten million recipes meet by chance once in 370,000 such collections."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One recipe, as its author wrote it.

    Raises:
        InputError: from `Recipe.parse`, where a record is not a recipe.
    """

    id: str
    """Unique within its dataset."""
    title: str = ""
    """The dish's name; may be empty."""
    ingredients: tuple[str, ...] = ()
    """Ingredient lines as free text ("2 cups flour"), in the author's order."""
    instructions: tuple[str, ...] = ()
    """Steps as free text, in order."""
    image: str | None = None
    """Photo path as written, relative to the dataset's folder."""
    partition: str | None = None
    """`train`, `val`, `test`, or None where the source says nothing."""
    url: str | None = None
    """Where the recipe was published."""
    category: str | None = None
    """The dish's class, for semantic losses and filters."""

    @classmethod
    def parse(
        cls,
        record: object,
        *,
        where: str,
        default_id: str | None = None,
        unknown: UnknownKeys | None = None,
    ) -> Recipe:
        """Check a decoded JSON record and make a recipe of it.

        Args:
            record: the decoded JSON value; must be an object with `ingredients`. Other usual names
                of the fields (`name`, `directions`, `photo`) are known.
            where: how to name the record in an error ("recipes.jsonl line 7").
            default_id: the id of a record that carries none; None takes `content_id`.
            unknown: told of keys that are not known.

        Raises:
            InputError: naming the field and what is wrong with it.
        """
        if not isinstance(record, Mapping):
            raise InputError(f"{where}: a recipe must be a JSON object, this is {_kind(record)}")
        if not record.keys() <= _FIELD_SET:
            keys = [str(key) for key in record]
            record = known_fields(record, unknown)
        else:
            keys = []
        ingredients = _texts(record, "ingredients", where)
        if not ingredients:
            near = [
                key for key in keys if key != "ingredients" and nearest_field(key) == "ingredients"
            ]
            meant = f"its key {near[0]!r} is unknown, did you mean 'ingredients'?" if near else ""
            raise InputError(
                f"{where}: the recipe has no ingredients; {meant or 'give at least one'}"
            )
        if len(ingredients) > MAX_INGREDIENTS:
            raise InputError(
                f"{where}: {len(ingredients)} ingredients, at most {MAX_INGREDIENTS} are allowed"
            )
        partition = _text(record, "partition", where)
        if partition is not None and partition not in PARTITIONS:
            raise InputError(
                f"{where}: partition is {partition!r}, must be one of {', '.join(PARTITIONS)}"
            )
        identity = record.get("id")
        if identity is None:
            identity = default_id
        if isinstance(identity, int) and not isinstance(identity, bool):
            identity = str(identity)
        if identity is not None and (not isinstance(identity, str) or not identity):
            raise InputError(f"{where}: id must be a non-empty string, not {_kind(identity)}")
        recipe = cls(
            id=identity or "",
            title=_text(record, "title", where) or "",
            ingredients=ingredients,
            instructions=_texts(record, "instructions", where),
            image=_text(record, "image", where),
            partition=partition,
            url=_text(record, "url", where),
            category=_text(record, "category", where),
        )
        return recipe if identity else replace(recipe, id=recipe.content_id)

    def __post_init__(self) -> None:
        """Replace half emojis: JSON can say them, but no file, database or terminal takes them."""
        try:
            # One encoding of everything costs less than a look at each text.
            "".join(self._texts()).encode()
        except UnicodeEncodeError:
            for field in FIELDS:
                value = getattr(self, field)
                if isinstance(value, tuple):
                    object.__setattr__(self, field, tuple(map(_without_surrogates, value)))
                elif value:
                    object.__setattr__(self, field, _without_surrogates(value))

    def _texts(self) -> Iterator[str]:
        yield from (self.id, self.title, *self.ingredients, *self.instructions)
        yield from filter(None, (self.image, self.partition, self.url, self.category))

    @property
    def content_id(self) -> str:
        """An id made of everything but the id, for records that carry none.

        The place in a file would name the first recipes of two files alike; this names a recipe
        alike wherever it is found, so that one met again is known as the same.
        """
        record = self.to_json()
        del record["id"]
        canonical = json.dumps(record, sort_keys=True).encode()
        return hashlib.sha256(canonical).hexdigest()[:CONTENT_ID_DIGITS]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, without the empty fields."""
        record = {
            "id": self.id,
            "title": self.title,
            "ingredients": list(self.ingredients),
            "instructions": list(self.instructions),
            "image": self.image,
            "partition": self.partition,
            "url": self.url,
            "category": self.category,
        }
        return {key: value for key, value in record.items() if value is not None}


def read_recipe(path: Path) -> Recipe:
    """Read one recipe from a JSON file, as `hficma search --recipe` does."""
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
        on_bad: told of each record left out, in one line that names the file and line.

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
    """Lines of UTF-16 or UTF-32 as UTF-8, with `readline` and `with` as files have them."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file = io.TextIOWrapper(file, encoding=encoding, newline="\n")

    def readline(self, limit: int) -> bytes:
        return self._file.readline(limit).encode("utf-8", errors="surrogatepass")

    def __enter__(self) -> _Recoded:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _open_lines(path: Path) -> IO[bytes] | _Recoded:
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


def _without_surrogates(text: str) -> str:
    return _SURROGATES.sub("\ufffd", text)


def _text(record: Mapping[str, object], field: str, where: str) -> str | None:
    value = record.get(field)
    # Sites and programs give several photos and categories, and a photo as an object.
    if isinstance(value, (list, Mapping)) and field in ("image", "category"):
        value = address_of(value) if field == "image" else text_of(value)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InputError(f"{where}: {field} must be text, not {_kind(value)}")
    return value.strip()


def _texts(record: Mapping[str, object], field: str, where: str) -> tuple[str, ...]:
    values = record.get(field)
    if values is None:
        return ()
    if isinstance(values, str):
        values = listed_lines(values, of_ingredients=field == "ingredients")
    if not isinstance(values, list):
        raise InputError(f"{where}: {field} must be a list of texts, not {_kind(values)}")
    texts: list[str] = []
    for position, value in enumerate(values, 1):
        if isinstance(value, Mapping):
            lines = ingredient_lines(value) if field == "ingredients" else step_lines(value)
            texts.extend(lines)
        elif isinstance(value, str):
            texts.append(value.strip())
        else:
            raise InputError(f"{where}: {field} {position} must be text, not {_kind(value)}")
    return tuple(text for text in texts if text)


def _kind(value: object) -> str:
    names = {
        dict: "an object", list: "a list", str: "text", bool: "true or false",
        int: "a number", float: "a number", type(None): "nothing",
    }  # fmt: skip
    return names.get(type(value), type(value).__name__)
