"""What a recipe is: reading, checking and writing one."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from hficma.errors import InputError

MAX_INGREDIENTS = 200  # more is not a recipe but a file gone wrong
MAX_LINE_BYTES = 4_000_000
PARTITIONS = ("train", "val", "test")
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
    def parse(cls, record: object, *, where: str, default_id: str | None = None) -> Recipe:
        """Check a decoded JSON record and make a recipe of it.

        Args:
            record: the decoded JSON value; must be an object with `ingredients`.
            where: how to name the record in an error ("recipes.jsonl line 7").
            default_id: the id of a record that carries none; None takes `content_id`.

        Raises:
            InputError: naming the field and what is wrong with it.
        """
        if not isinstance(record, Mapping):
            raise InputError(f"{where}: a recipe must be a JSON object, this is {_kind(record)}")
        ingredients = _texts(record, "ingredients", where)
        if not ingredients:
            raise InputError(f"{where}: the recipe has no ingredients; give at least one")
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
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({_reason(error)})") from error
    if not text.strip():
        raise InputError(f"{path}: the file is empty; it must hold one recipe as a JSON object")
    try:
        record = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON ({error})") from error
    return Recipe.parse(record, where=str(path), default_id=path.stem)


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
    with _open_lines(path) as lines:
        number = 0
        while True:
            try:
                line = lines.readline(MAX_LINE_BYTES + 1)
            except (OSError, EOFError) as error:
                raise InputError(f"{path}: cannot be read ({_reason(error)})") from error
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
                yield Recipe.parse(_decode(line, where), where=where)
            except InputError as error:
                if strict:
                    raise
                if on_bad is not None:
                    on_bad(str(error))


def _open_lines(path: Path) -> IO[bytes]:
    if str(path) == "-":
        import sys

        return sys.stdin.buffer
    if path.is_dir():
        raise InputError(f"{path}: is a directory; give a JSONL file")
    try:
        file = path.open("rb")
        if path.suffix != ".gz":
            return file
        return io.BufferedReader(gzip.GzipFile(fileobj=file))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({_reason(error)})") from error


def _decode(line: bytes, where: str) -> object:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not UTF-8 text") from error
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        raise InputError(f"{where}: is not valid JSON ({error})") from error


def _text(record: Mapping[str, object], field: str, where: str) -> str | None:
    value = record.get(field)
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
        values = values.splitlines()
    if not isinstance(values, list):
        raise InputError(f"{where}: {field} must be a list of texts, not {_kind(values)}")
    for position, value in enumerate(values, 1):
        if not isinstance(value, str):
            raise InputError(f"{where}: {field} {position} must be text, not {_kind(value)}")
    return tuple(text for value in values if (text := value.strip()))


def _kind(value: object) -> str:
    names = {
        dict: "an object", list: "a list", str: "text", bool: "true or false",
        int: "a number", float: "a number", type(None): "nothing",
    }  # fmt: skip
    return names.get(type(value), type(value).__name__)


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
