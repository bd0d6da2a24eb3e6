"""Reads Tandoor's export: a ZIP of ZIPs, one for each recipe, of `recipe.json` and `image.jpg`.

A recipe is {"name", "steps": [{"name", "instruction", "ingredients": [{"food": {"name"}, "unit":
{"name"}, "amount", "note", "is_header", "no_amount", "original_text"}]}], "source_url"}: its
ingredients lie in its steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ....recipe.field_shapes import measured_food, plain_fields, step_lines, text_of
from .recipe_file import RawRecord


def is_recipe(value: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is a recipe of Tandoor's: its ingredients lie in its steps."""
    return any("ingredients" in step for step in _steps(value))


def record(value: Mapping[str, Any]) -> RawRecord:
    """Return a recipe of Tandoor's as a record; its photo lies beside it."""
    instructions = [
        line
        for step in _steps(value)
        for line in step_lines({"name": step.get("name"), "text": step.get("instruction")})
    ]
    fields = {
        "title": text_of(value.get("name")),
        "ingredients": list(_ingredients(value)),
        "instructions": instructions,
        "url": text_of(value.get("source_url")),
    }
    return RawRecord(fields=fields)


def _steps(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    steps = value.get("steps")
    return [s for s in steps if isinstance(s, Mapping)] if isinstance(steps, list) else []


def _ingredients(value: Mapping[str, Any]) -> Iterator[str]:
    """Yield the ingredient lines of all steps."""
    for step in _steps(value):
        items = step.get("ingredients")
        for item in items if isinstance(items, list) else ():
            if not isinstance(item, Mapping) or item.get("is_header"):
                continue
            amount = None if item.get("no_amount") else item.get("amount")
            line = measured_food(plain_fields({**item, "amount": amount}))
            if line := line or text_of(item.get("original_text")):
                yield line
