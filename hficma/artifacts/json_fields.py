"""Reads the JSON of an artifact strictly: each value has the type and range that the format says.

What a manifest says decides which bytes are read and how, so it is believed only where it is
exactly what this program writes. Everything else is a `ValueError` of one line, which the reader
of the file turns into an `ArtifactError` that names it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

LARGEST_SIZE = 1 << 20
"""No width, number of heads or length of a model is above this."""
MOST = 2**53
"""No count, size or number of an item is above this: every JSON reader keeps it exactly."""


def strict_json(text: str | bytes) -> Any:
    """Decode JSON in which no key comes twice.

    Raises:
        ValueError: no JSON, a key twice in one object, or nested too deep to decode.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Readers differ in which of two values they take: what was checked could be the other one.
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key stands in it twice")
    return record


class Fields:
    """An object of an artifact's JSON, whose fields are read by name and type.

    Args:
        value: the decoded JSON.
        name: of the object, for messages.
        known: the keys it may have; None allows any.

    Raises:
        ValueError: no object, or one with a key that the format does not know; so does every
            method where a field is missing, of another type or out of its range.
    """

    def __init__(self, value: object, name: str, known: Collection[str] | None = None) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{name} is no object")
        self._record: dict[str, Any] = value
        self._name = name
        if known is not None and (unknown := value.keys() - set(known)):
            raise ValueError(f"{name} has an unknown key {str(min(unknown))[:40]!r}")

    def __contains__(self, key: str) -> bool:
        return key in self._record

    def __iter__(self) -> Iterator[str]:
        return iter(self._record)

    def items(self) -> Iterable[tuple[str, Any]]:
        """Return the fields as they were decoded."""
        return self._record.items()

    def value(self, key: str) -> Any:
        """Return the field as it was decoded."""
        try:
            return self._record[key]
        except KeyError:
            raise ValueError(f"{self._name} lacks {key!r}") from None

    def integer(self, key: str, least: int = 0, most: int = MOST) -> int:
        """Return an integer within [least, most]."""
        return integer(self.value(key), f"{self._name}.{key}", least, most)

    def number(self, key: str, least: float = 0.0) -> float:
        """Return a finite number of at least `least`."""
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{self._name}.{key} is no number")
        if isinstance(value, int) and abs(value) > MOST:
            raise ValueError(f"{self._name}.{key} is out of range")
        if not math.isfinite(value) or value < least:
            raise ValueError(f"{self._name}.{key} is {value}: must be finite, {least:g} or more")
        return float(value)

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self.value(key)
        if not isinstance(value, bool):
            raise ValueError(f"{self._name}.{key} is neither true nor false")
        return value

    def text(self, key: str, among: Collection[str] | None = None) -> str:
        """Return text, one of `among` if given."""
        return text(self.value(key), f"{self._name}.{key}", among)

    def optional_text(self, key: str, among: Collection[str] | None = None) -> str | None:
        """Return text as `text` does, or None for null."""
        return None if self.value(key) is None else self.text(key, among)

    def sequence(self, key: str) -> list[Any]:
        """Return a list."""
        value = self.value(key)
        if not isinstance(value, list):
            raise ValueError(f"{self._name}.{key} is no list")
        return value

    def object(self, key: str, known: Collection[str] | None = None) -> Fields:
        """Return an object inside this one."""
        return Fields(self.value(key), f"{self._name}.{key}", known)

    def hashes(self, key: str) -> dict[str, str]:
        """Return an object of file names to SHA-256."""
        record = self.object(key)
        for name in record:
            if not _SHA256.fullmatch(record.text(name)):
                raise ValueError(f"{self._name}.{key}: no SHA-256 for {name[:80]!r}")
        return dict(record._record)


def dataclass_fields(kind: type, value: object, name: str, *, most: int = MOST) -> dict[str, Any]:
    """Return the fields of a dataclass as JSON holds them, each of its own type.

    Args:
        kind: a dataclass of texts, choices, flags, finite numbers and integers from 0; a field
            that is a dataclass itself is returned as decoded.
        value: the decoded JSON; fields that have defaults may be missing.
        name: of the object, for messages.
        most: what integers may reach.

    Raises:
        ValueError: a field of another type or out of its range, unknown, or missing.
    """
    hints = get_type_hints(kind)
    fields = Fields(value, name, hints)
    read: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        missing = (field.default, field.default_factory) == (dataclasses.MISSING,) * 2
        if field.name in fields or missing:
            read[field.name] = _typed(fields, field.name, hints[field.name], most)
    return read


def _typed(fields: Fields, key: str, hint: Any, most: int) -> Any:
    if get_origin(hint) in (Union, UnionType):
        if fields.value(key) is None and NoneType in get_args(hint):
            return None
        (hint,) = (kind for kind in get_args(hint) if kind is not NoneType)
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        value = fields.value(key)
        # 1 == True, so the type is compared too.
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ValueError(f"{key} is {str(value)[:40]!r}, not one of {choices}")
        return value
    if hint is bool:
        return fields.flag(key)
    if hint is int:
        return fields.integer(key, most=most)
    if hint is float:
        return fields.number(key)
    return fields.text(key) if hint is str else fields.value(key)


_SHA256 = re.compile("[0-9a-f]{64}")


def integer(value: object, name: str, least: int = 0, most: int = MOST) -> int:
    """Return `value` if it is an integer within [least, most].

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is no integer")
    if not least <= value <= most:
        raise ValueError(f"{name} is not within {least} and {most}")
    return value


def text(value: object, name: str, among: Collection[str] | None = None) -> str:
    """Return `value` if it is text, one of `among` if given.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    if among is not None and value not in among:
        raise ValueError(f"{name} is {value[:40]!r}, not one of {', '.join(among)}")
    return value
