"""The shapes that others give a recipe's fields, brought to texts and lists of lines.

Ingredients come as one text, a list of texts, a list of objects of amount, unit and food, or lists
of such lists by section; steps as texts, or as schema.org's HowToStep and HowToSection; a photo as
an address or an object that holds one. Every function takes any JSON value and never fails: what
has none of the shapes gives nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .markup import marked_lines, plain_lines, plain_text
from .text_lists import list_literal, listed_lines

MAX_DEPTH = 40
"""Lists and objects inside each other that are looked into."""
LONGEST_ADDRESS = 4096
"""Characters of an address; a longer text is the photo itself, as base64."""


def ingredient_lines(value: object, depth: int = 0) -> Iterator[str]:
    """Yield the ingredient lines in a value of any usual shape.

    A text is one line for each of its lines; in a list of several texts each is one ingredient,
    and a line end inside it no more than a space. Objects are amount, unit and name, or hold lists.
    """
    if depth > MAX_DEPTH:
        return
    if isinstance(value, str):
        items = list_literal(value)
        lines = list(plain_lines(value) if items is None else filter(None, map(plain_text, items)))
        # In a list, "1 onion, chopped, divided" is one: only a whole field may be a list of commas.
        if items is None and len(lines) == 1 and depth == 0:
            lines = [
                part
                for line in listed_lines(lines[0], of_ingredients=True)
                if (part := line.strip())
            ]
        yield from _whole_lines(iter(lines))
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, str) and len(value) > 1:
                yield from _whole_lines(marked_lines(item))
            else:
                yield from ingredient_lines(item, depth + 1)
    elif isinstance(value, Mapping):
        fields = plain_fields(value)
        parts = first_of(fields, "itemlistelement", "item", "ingredients", "recipeingredient")
        if isinstance(parts, str) and parts is fields.get("item"):
            parts = None  # no list's item but the food, whose amount stands beside it
        if parts is not None:
            yield from ingredient_lines(parts, depth + 1)
        elif text := first_of(
            fields, "@value", "display", "originaltext", "original", "originalstring", "text"
        ):
            yield from ingredient_lines(text, depth + 1)
        elif line := measured_food(fields):
            yield line
        else:  # sections as names of lists: {"For the sauce": ["2 tomatoes"]}
            for inner in value.values():
                if isinstance(inner, (list, Mapping)):
                    yield from ingredient_lines(inner, depth + 1)


def measured_food(fields: Mapping[str, Any]) -> str | None:
    """Return the line of an ingredient that is given as amount, unit, food and note."""
    food = text_of(first_of(fields, "food", "name", "ingredient", "item", "description"))
    note = text_of(fields.get("note"))
    if not food and not note:
        return None
    amount = amount_of(
        first_of(fields, "requiredquantity", "amount", "quantity", "qty", "value", "measure")
    )
    unit = amount_of(first_of(fields, "unit", "units", "unittext", "unitcode"))
    line = " ".join(part for part in (amount, unit, food) if part)
    return f"{line}, {note}" if food and note else line or note


def amount_of(value: object) -> str | None:
    """Return an amount or unit as text: of a number, a text or an object of both."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{round(value, 3):g}" if value else None
    if isinstance(value, Mapping):
        fields = plain_fields(value)
        amount = amount_of(first_of(fields, "value", "amount", "quantity"))
        unit = text_of(first_of(fields, "unittext", "unitcode", "unit"))
        return " ".join(part for part in (amount, unit) if part) or text_of(value)
    return text_of(value)


def step_lines(value: object, depth: int = 0) -> Iterator[str]:
    """Yield the steps in a value of any usual shape: texts, HowToSteps, sections, lists of them."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, str):
        items = list_literal(value)
        yield from plain_lines(value) if items is None else filter(None, map(plain_text, items))
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, str) and len(value) > 1:
                yield from marked_lines(item)
            else:
                yield from step_lines(item, depth + 1)
    elif isinstance(value, Mapping):
        fields = plain_fields(value)
        name = text_of(first_of(fields, "name", "title"))
        parts = first_of(
            fields, "itemlistelement", "item", "steps", "recipeinstructions", "instructions"
        )
        if parts is not None:
            inner = list(step_lines(parts, depth + 1))
        else:
            text = first_of(fields, "@value", "text", "description", "instruction", "step")
            inner = list(
                marked_lines(text) if isinstance(text, str) else step_lines(text, depth + 1)
            )
        # A section's head is shown above its steps; a step's name mostly repeats how it begins.
        if name and not (inner and inner[0].casefold().startswith(name.casefold().rstrip(".:"))):
            yield name
        yield from inner


def text_of(value: object, depth: int = 0) -> str | None:
    """Return a value's text on one line; of a list the first that has any."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, str):
        return plain_text(value) or None
    if isinstance(value, list):
        return next((text for item in value if (text := text_of(item, depth + 1))), None)
    if isinstance(value, Mapping):
        fields = plain_fields(value)
        return text_of(first_of(fields, "@value", "name", "text", "title"), depth + 1)
    return None


def address_of(value: object, depth: int = 0) -> str | None:
    """Return the address in a text or object (`url`, `contentUrl`, `@id`); of a list the first."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, list):
        return next((text for item in value if (text := address_of(item, depth + 1))), None)
    if isinstance(value, Mapping):
        value = first_of(
            plain_fields(value), "url", "contenturl", "@id", "@value", "path", "filename", "src"
        )
    return (
        value.strip() or None if isinstance(value, str) and len(value) < LONGEST_ADDRESS else None
    )


def plain_fields(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object's values by their keys in lower case, without prefix and underscores."""
    fields: dict[str, Any] = {}
    for key, value in node.items():
        fields.setdefault(last_part(key).lower().replace("_", ""), value)
    return fields


def last_part(name: str) -> str:
    """Return `Recipe` of "http://schema.org/Recipe", "schema:Recipe" or "Recipe"."""
    return re.split("[/#:]", name.rstrip("/"))[-1]


def first_of(fields: Mapping[str, Any], *names: str) -> Any:
    """Return the first value among the names that is not empty, or None."""
    return next((fields[name] for name in names if fields.get(name)), None)


def _whole_lines(lines: Iterator[str]) -> Iterator[str]:
    """Yield lines, a line without a letter ("2") joined with the one that follows it."""
    waiting = ""
    for line in lines:
        line = f"{waiting} {line}".strip()
        waiting = ""
        if any(character.isalpha() for character in line):
            yield line
        else:
            waiting = line
    if waiting:
        yield waiting
