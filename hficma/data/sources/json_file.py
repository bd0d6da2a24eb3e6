"""JSON as sites and recipe managers write it: whose it is, is told by its keys.

All of them are called `recipe.json` or after their recipe, so a name tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hficma.errors import InputError
from hficma.limits import RECIPES_BYTES, gunzip, parse_json
from hficma.recipe_fields import plain_fields

from . import mealie, tandoor
from .recipe_file import RawRecord
from .schema_org import image_addresses, is_json_ld, recipe_nodes, to_record

GZIP = b"\x1f\x8b"
LISTS = ("recipes", "data", "items")
"""Keys under which a file keeps its list of recipes."""
LEAST_PHOTO = 1000
"""Characters of base64: what is shorter is a name."""


def read_json(content: bytes, name: str) -> Iterable[RawRecord]:
    """Read the recipes of a JSON file, gzip or not, whichever program wrote it.

    Raises:
        InputError: it is no JSON, or holds no recipe.
    """
    if content.startswith(GZIP):
        content = gunzip(content, name=name, limit=RECIPES_BYTES)
    value = parse_json(content, name=name, limit=RECIPES_BYTES)
    if isinstance(value, Mapping) and mealie.is_backup(value):
        return list(mealie.backup_records(value, name))
    if is_json_ld(value):
        records = [_json_ld_record(node) for node in recipe_nodes(value)]
        if not records:
            raise InputError(f"{name}: its JSON-LD holds no Recipe")
        return records
    place: tuple[str, ...] = ()  # of a record in the file, for the photos in it
    if isinstance(value, Mapping):
        lists = [key for key in LISTS if isinstance(value.get(key), list)]
        if lists and "ingredients" not in value:
            place, value = (lists[0],), value[lists[0]]
        elif len(value) > 1 and all(isinstance(record, Mapping) for record in value.values()):
            return [_by_key(key, record) for key, record in value.items()]
        else:
            return [_record(value, place)]
    if not isinstance(value, list):
        return [RawRecord(fields=value)]
    if not value:
        raise InputError(f"{name}: holds an empty list")
    return [_record(record, (*place, str(number))) for number, record in enumerate(value)]


def _record(value: Any, place: Sequence[str]) -> RawRecord:
    if not isinstance(value, Mapping):
        return RawRecord(fields=value)
    if "recipe" in str(value.get("@type", "")).lower():
        return _json_ld_record(value)
    if tandoor.is_recipe(value):
        return tandoor.record(value)
    if mealie.is_recipe(keys := plain_fields(value)):
        return mealie.record(keys)
    return RawRecord(fields=value, inline=tuple("/".join((*place, key)) for key in _inline(value)))


def _by_key(key: str, value: Mapping[str, Any]) -> RawRecord:
    """Return a record of a file that is one object of records by their ids."""
    record = _record(value, (key,))
    fields = record.fields if record.fields.get("id") else {**record.fields, "id": key}
    return replace(record, fields=fields)


def _json_ld_record(node: Mapping[str, Any]) -> RawRecord:
    return RawRecord(fields=to_record(node), photos=tuple(image_addresses(node)))


def _inline(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield where a record holds photos as base64.

    Paprika's `photo_data` and `photos: [{"data"}]`, Mela's `images`.
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
