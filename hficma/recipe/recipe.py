"""What a recipe is: its fields, checked, from and to JSON."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InputError
from .field_names import FIELDS, UnknownKeys, known_fields, nearest_field
from .field_shapes import address_of, ingredient_lines, step_lines, text_of
from .text_lists import listed_lines

MAX_INGREDIENTS = 200
"""Ingredient lines of a recipe; more is a file gone wrong."""
_FIELD_SET = frozenset(FIELDS)
_SURROGATES = re.compile("[\ud800-\udfff]")
PARTITIONS = ("train", "val", "test")
"""Parts of a dataset that a recipe can say that it belongs to."""
CONTENT_ID_DIGITS = 16
"""64 bits: two of ten million recipes meet by chance once in 370,000 such collections."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One recipe, as its author wrote it."""

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
        """Check a decoded JSON record and return the recipe in it.

        Args:
            record: the decoded JSON value; must be an object with `ingredients`. Other usual names
                of the fields (`name`, `directions`, `photo`) are known.
            where: how to name the record in an error ("recipes.jsonl line 7").
            default_id: the id of a record that carries none; None takes `content_id`.
            unknown: notes keys that are not known.

        Raises:
            InputError: naming the field and what is wrong with it.
        """
        if not isinstance(record, Mapping):
            raise InputError(f"{where}: a recipe must be a JSON object, this is {_kind(record)}")
        keys = [str(key) for key in record]
        if not record.keys() <= _FIELD_SET:
            record = known_fields(record, unknown)
        ingredients = _ingredients(record, keys, where)
        partition = _partition(record, where)
        identity = _identity(record, default_id, where)
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
        """Yield every text of the recipe."""
        yield from (self.id, self.title, *self.ingredients, *self.instructions)
        yield from filter(None, (self.image, self.partition, self.url, self.category))

    @property
    def content_id(self) -> str:
        """Return an id made of everything but the id, for records that carry none.

        The place in a file would name the first recipes of two files alike; this names a recipe
        alike wherever it is found, so that one met again is known as the same.
        """
        record = self.to_json()
        del record["id"]
        canonical = json.dumps(record, sort_keys=True).encode()
        return hashlib.sha256(canonical).hexdigest()[:CONTENT_ID_DIGITS]

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values, without the fields that are None."""
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


def _without_surrogates(text: str) -> str:
    """Replace each half of an emoji by the sign for what cannot be shown."""
    return _SURROGATES.sub("\ufffd", text)


def _ingredients(record: Mapping[str, object], keys: list[str], where: str) -> tuple[str, ...]:
    """Read the ingredients; `keys` are the record's own, of which one may be a slip of theirs."""
    ingredients = _texts(record, "ingredients", where)
    if not ingredients:
        slips = [key for key in keys if key not in FIELDS and nearest_field(key) == "ingredients"]
        hint = (
            f"its key {slips[0]!r} is unknown, did you mean 'ingredients'?"
            if slips
            else "give at least one"
        )
        raise InputError(f"{where}: the recipe has no ingredients; {hint}")
    if len(ingredients) > MAX_INGREDIENTS:
        raise InputError(
            f"{where}: {len(ingredients)} ingredients, at most {MAX_INGREDIENTS} are allowed"
        )
    return ingredients


def _partition(record: Mapping[str, object], where: str) -> str | None:
    partition = _text(record, "partition", where)
    if partition is not None and partition not in PARTITIONS:
        raise InputError(
            f"{where}: partition is {partition!r}, must be one of {', '.join(PARTITIONS)}"
        )
    return partition


def _identity(record: Mapping[str, object], default: str | None, where: str) -> str | None:
    """Read the id, a text or a number; None where there is neither one nor a default."""
    identity = record.get("id")
    if identity is None:
        identity = default
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    if identity is not None and (not isinstance(identity, str) or not identity):
        raise InputError(f"{where}: id must be a non-empty string, not {_kind(identity)}")
    return identity


def _text(record: Mapping[str, object], field: str, where: str) -> str | None:
    """Read a field that is one text, or None where it is missing."""
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
    """Read a field that is a list of texts, empty ones left out."""
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
    """Return what a JSON value is called in an error."""
    names = {
        dict: "an object", list: "a list", str: "text", bool: "true or false",
        int: "a number", float: "a number", type(None): "nothing",
    }  # fmt: skip
    return names.get(type(value), type(value).__name__)
