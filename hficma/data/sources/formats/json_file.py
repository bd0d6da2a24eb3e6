"""Reads JSON of sites and recipe managers; the keys tell which program wrote it.

Most call their files `recipe.json` or after the recipe, so the name tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ....errors import InputError
from ....limits import RECIPES_BYTES, gunzip, parse_json
from ....recipe.field_names import field_of
from ....recipe.field_shapes import plain_fields
from . import mealie, tandoor
from .recipe_file import RawRecord
from .schema_org import image_addresses, is_json_ld, recipe_nodes, to_record

GZIP = b"\x1f\x8b"
"""Begins a gzip file, as which Paprika stores its JSON."""
LISTS = ("recipes", "data", "items")
"""Keys under which a file keeps its list of recipes."""
WRAPPERS = ("recipe", *LISTS, "result", "results", "response")
"""Keys that programs wrap around the whole content of a file."""
LEAST_PHOTO = 1000
"""Characters of base64 that a photo has at least; a shorter text is a name."""


def read_json(content: bytes, name: str) -> Iterable[RawRecord]:
    """Return the recipes of a JSON file, gzip or not, whichever program wrote it.

    Args:
        content: the file's bytes.
        name: of the file, for errors.

    Raises:
        InputError: it is no JSON, or holds no recipe.
    """
    if content.startswith(GZIP):
        content = gunzip(content, name=name, limit=RECIPES_BYTES)
    try:
        value = parse_json(content, name=name, limit=RECIPES_BYTES)
    except InputError:
        if (lines := _json_lines(content, name)) is None:
            raise
        value = lines
    if isinstance(value, Mapping) and mealie.is_backup(value):
        return list(mealie.backup_records(value, name))
    if is_json_ld(value):
        records = [_json_ld_record(node) for node in recipe_nodes(value)]
        if not records:
            raise InputError(f"{name}: its JSON-LD holds no Recipe")
        return records
    # What remains is one record, a list of them or an object of them by id, perhaps wrapped in keys
    # that say nothing. `place` leads from the file's root to a record, to find the photos in it.
    place: tuple[str, ...] = ()
    while (
        isinstance(value, Mapping)
        and len(value) == 1
        and isinstance(inner := value.get(wrapper := next(iter(value))), (Mapping, list))
        and wrapper in WRAPPERS
    ):
        place, value = (*place, wrapper), inner
    if isinstance(value, Mapping):
        lists = [key for key in LISTS if isinstance(value.get(key), list)]
        if lists and "ingredients" not in value:
            place, value = (*place, lists[0]), value[lists[0]]
        elif all(
            isinstance(record, Mapping) and (len(value) > 1 or field_of(key) is None)
            for key, record in value.items()
        ):
            return [_by_key(place, key, record) for key, record in value.items()]
        else:
            return [_record(value, place)]
    if not isinstance(value, list):
        return [RawRecord(fields=value)]
    if not value:
        raise InputError(f"{name}: holds an empty list")
    return [_record(record, (*place, str(number))) for number, record in enumerate(value)]


def _record(value: Any, place: Sequence[str]) -> RawRecord:
    """Return one value of a file as a record, by the program that its keys betray."""
    if not isinstance(value, Mapping):
        return RawRecord(fields=value)
    if "recipe" in str(value.get("@type", "")).lower():
        return _json_ld_record(value)
    if tandoor.is_recipe(value):
        return tandoor.record(value)
    if mealie.is_recipe(keys := plain_fields(value)):
        return mealie.record(keys)
    return RawRecord(fields=value, inline=tuple("/".join((*place, key)) for key in _inline(value)))


def _json_lines(content: bytes, name: str) -> list[Any] | None:
    """Return the values of a file that is JSON lines by another name; a bad line as its text."""
    values: list[Any] = []
    for line in filter(bytes.strip, content.splitlines()):
        try:
            values.append(parse_json(line, name=name))
        except InputError:
            if not values:
                return None
            values.append(line[:100].decode(errors="replace"))
    return values if len(values) > 1 and isinstance(values[0], Mapping) else None


def _by_key(place: Sequence[str], key: str, value: Mapping[str, Any]) -> RawRecord:
    """Return a record of a file that is one object of records by their ids."""
    record = _record(value, (*place, key))
    fields = record.fields if record.fields.get("id") else {**record.fields, "id": key}
    return replace(record, fields=fields)


def _json_ld_record(node: Mapping[str, Any]) -> RawRecord:
    return RawRecord(fields=to_record(node), photos=tuple(image_addresses(node)))


def _inline(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths inside a record to its photos in base64.

    Those are Paprika's `photo_data` and `photos: [{"data"}]`, and Mela's `images`.
    """
    if isinstance(data := record.get("photo_data"), str) and data:
        yield "photo_data"
    for key in ("images", "photos"):
        images = record.get(key)
        for number, image in enumerate(images if isinstance(images, list) else ()):
            if isinstance(image, str) and len(image) >= LEAST_PHOTO and "://" not in image[:20]:
                yield f"{key}/{number}"
            elif isinstance(image, Mapping) and isinstance(image.get("data"), str):
                yield f"{key}/{number}/data"
