"""Reads Mealie's exports: a JSON file for each recipe beside `images/original.webp`; or a backup.

A recipe is {"name", "slug", "recipeIngredient": [{"title", "note", "display", "originalText",
"quantity", "disableAmount", "unit": {"name"}, "food": {"name"}}], "recipeInstructions": [{"title",
"text"}], "recipeCategory": [{"name"}], "orgURL"}, where a title is a section's head; early versions
write the same with underscores. A backup's database.json holds the tables of its database.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ....errors import InputError
from ....recipe.field_shapes import (
    ingredient_lines,
    measured_food,
    plain_fields,
    step_lines,
    text_of,
)
from .recipe_file import RawRecord


def is_recipe(keys: Mapping[str, Any]) -> bool:
    """Return whether an object is a recipe of Mealie's.

    Args:
        keys: of the object, from `plain_fields` (lower case, no underscores).
    """
    return isinstance(keys.get("recipeingredient"), list) and "slug" in keys


def record(keys: Mapping[str, Any]) -> RawRecord:
    """Return a recipe of Mealie's as a record.

    Args:
        keys: of the recipe, from `plain_fields`.
    """
    identity = keys.get("id")  # a number in early versions, of the recipe in one database
    fields = {
        "id": identity if isinstance(identity, str) and identity else None,
        "title": text_of(keys.get("name")),
        "ingredients": list(_lines(keys["recipeingredient"])),
        "instructions": list(step_lines(keys.get("recipeinstructions") or [])),
        "url": text_of(keys.get("orgurl")),
        "category": text_of(keys.get("recipecategory")),
    }
    return RawRecord(fields=fields)


def is_backup(tables: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is a backup's database."""
    return "recipes_ingredients" in tables and "recipes" in tables


def backup_records(tables: Mapping[str, Any], name: str) -> Iterator[RawRecord]:
    """Yield the recipes of a backup, joining the tables of its database.

    Args:
        tables: rows by table.
        name: of the file, for errors.

    Raises:
        InputError: there are none.
    """
    names = {
        row["id"]: row.get("name")
        for table in ("ingredient_foods", "ingredient_units", "categories")
        for row in _rows(tables, table)
        if isinstance(row.get("id"), (str, int))
    }
    ingredients = _by_recipe(tables, "recipes_ingredients")
    steps = _by_recipe(tables, "recipe_instructions")
    categories = _by_recipe(tables, "recipes_to_categories")
    recipes = _rows(tables, "recipes")
    if not recipes:
        raise InputError(f"{name}: the backup holds no recipe")
    for row in recipes:
        identity = row.get("id")
        if not isinstance(identity, (str, int)):
            continue
        items = [
            {**item, "food": names.get(item.get("food_id")), "unit": names.get(item.get("unit_id"))}
            for item in ingredients[identity]
        ]
        category_names = [
            names.get(category.get("category_id")) for category in categories[identity]
        ]
        fields = {
            "id": identity if isinstance(identity, str) else None,
            "title": text_of(row.get("name")),
            "ingredients": list(_lines(items)),
            "instructions": list(step_lines(steps[identity])),
            "url": text_of(row.get("org_url")),
            "category": text_of(category_names),
        }
        yield RawRecord(fields=fields, folders=(f"data/recipes/{_dashed(identity)}",))


def _lines(items: Iterable[Any]) -> Iterator[str]:
    """Yield the ingredient lines of a recipe."""
    for item in items:
        if not isinstance(item, Mapping):
            yield from ingredient_lines([item])
            continue
        fields = plain_fields(item)
        # Where amounts are not used, a quantity of 1 stands beside a note that is the whole line.
        whole = fields.get("disableamount") or not text_of(fields.get("food"))
        line = text_of(fields.get("display"))
        line = line or (text_of(fields.get("note")) if whole else measured_food(fields))
        if line := line or text_of(fields.get("originaltext")):
            yield line


def _rows(tables: Mapping[str, Any], table: str) -> list[Mapping[str, Any]]:
    """Return the rows of a table; a missing one has none."""
    rows = tables.get(table)
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _by_recipe(tables: Mapping[str, Any], table: str) -> dict[Any, list[Mapping[str, Any]]]:
    """Return the rows of a table by their recipe's id, in their order."""
    groups: defaultdict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for row in _rows(tables, table):
        if isinstance(row.get("recipe_id"), (str, int)):
            groups[row["recipe_id"]].append(row)
    for rows in groups.values():
        rows.sort(key=lambda row: place if isinstance(place := row.get("position"), int) else 0)
    return groups


def _dashed(identity: object) -> str:
    """Return a UUID with dashes, as the folders are named; the tables write it without."""
    text = str(identity).replace("-", "")
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
