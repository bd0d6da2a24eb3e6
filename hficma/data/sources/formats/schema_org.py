"""Reads schema.org Recipes as sites publish them, from JSON-LD, microdata or RDFa alike.

https://schema.org/Recipe. The three notations arrive here as JSON-LD's objects; this module finds
the Recipes among them and makes records of them. It is lenient where sites are careless: types
and properties in any case and with any prefix, steps and ingredients as texts, objects, lists or
sections.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from typing import Any

from ....errors import InputError
from ....recipe import Recipe
from ....recipe.field_shapes import (
    MAX_DEPTH,
    address_of,
    first_of,
    ingredient_lines,
    last_part,
    plain_fields,
    step_lines,
    text_of,
)

# Where a value may begin, and what else surrounds it in a script.
_OPENING = re.compile(r"[{\[]")
_CDATA = re.compile(r"<!\[CDATA\[|\]\]>")
# A string, matched so that commas inside it are passed over; or a comma before a closing bracket,
# or before the end of what was cut off.
_STRING_OR_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*[}\]])|,(?=\s*$)', re.S)
# An escape of JSON's in group 1, or another character behind a backslash in group 2.
_BAD_ESCAPE = re.compile(r'\\(?:(["\\/bfnrt]|u[0-9a-fA-F]{4})|(.))', re.S)


def is_json_ld(value: object) -> bool:
    """Return whether a decoded JSON value is JSON-LD rather than plain records.

    Args:
        value: an object, or a list whose first one tells.
    """
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, Mapping) and any(
        key in first for key in ("@context", "@type", "@graph")
    )


def decode_block(block: str, where: str) -> object:
    """Decode a JSON-LD script, with the faults that browsers and search engines overlook.

    Those are CDATA and comment marks, and other text before and behind the value, entities, raw
    control characters in strings, commas before a closing bracket, and escapes that JSON lacks.

    Args:
        block: the script's text.
        where: how to name the page in an error.

    Raises:
        InputError: it is not JSON.
    """
    text = _CDATA.sub("", block)
    start = _OPENING.search(text)
    text = text[start.start() :] if start else text
    # From the least to the most that is changed: unescaping entities can break what was right.
    first: ValueError | None = None
    for mend in (_as_it_is, _mended, _unescaped):
        try:
            value: object = json.JSONDecoder(strict=False).raw_decode(mend(text))[0]
            return value
        except RecursionError as error:
            raise InputError(f"{where}: its JSON-LD is nested too deep") from error
        except ValueError as error:
            first = first or error
    raise InputError(f"{where}: its JSON-LD is not valid JSON ({first})") from first


def recipe_nodes(value: object) -> list[Mapping[str, Any]]:
    """Return the Recipe objects in decoded JSON-LD, in order, wherever a page nests them.

    JSON-LD is a graph: `@graph` lists nodes, and a property may hold a node or point to it by its
    `@id`, as in

        {"@graph": [{"@type": "Recipe", "image": {"@id": "#photo"}},
                    {"@type": "ImageObject", "@id": "#photo", "url": "pie.jpg"}]}

    A pointer to a node of the same block is replaced by the node, one step deep: graphs have
    cycles.

    Args:
        value: an object, or a list of them.
    """
    nodes: list[Mapping[str, Any]] = []
    by_id: dict[str, Mapping[str, Any]] = {}
    # A stack instead of recursion, whose depth a page could exhaust; pushed in reverse, so nodes
    # come off it in the order of the page.
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            continue
        if isinstance(item, list):
            waiting.extend((inner, depth + 1) for inner in reversed(item))
        elif isinstance(item, Mapping):
            # An object of nothing but an @id is a pointer, not a node.
            if isinstance(identity := item.get("@id"), str) and len(item) > 1:
                by_id.setdefault(identity, item)
            if "recipe" in _types(item):
                nodes.append(item)
                inside: Any = [v for v in item.values() if isinstance(v, Mapping)]
            else:
                inside = item.values()
            waiting.extend((inner, depth + 1) for inner in reversed(list(inside)))
    # A Recipe inside a Recipe is one that the page links to, unless it is the page's only one.
    return [_resolved(node, by_id) for node in nodes]


def to_record(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Recipe object as a record for `Recipe.parse`; fields may be empty.

    Args:
        node: of `recipe_nodes`.
    """
    fields = plain_fields(node)
    images = image_addresses(node)
    return {
        "title": text_of(fields.get("name")) or text_of(fields.get("headline")) or "",
        "ingredients": list(ingredient_lines(first_of(fields, *_INGREDIENTS))),
        "instructions": list(step_lines(first_of(fields, *_INSTRUCTIONS))),
        "image": images[0] if images else None,
        "url": address_of(fields.get("url")) or address_of(fields.get("mainentityofpage")),
        "category": text_of(fields.get("recipecategory")),
    }


def to_recipe(node: Mapping[str, Any], *, where: str) -> Recipe:
    """Return a Recipe object as the project's recipe; `image` is the first photo's address.

    Args:
        node: of `recipe_nodes`.
        where: how to name it in an error.

    Raises:
        InputError: it holds no ingredients, or fields of the wrong kind.
    """
    return Recipe.parse(to_record(node), where=where)


def image_addresses(node: Mapping[str, Any]) -> list[str]:
    """Return the addresses of a Recipe's photos as written: URLs or paths."""
    fields = plain_fields(node)
    images = first_of(fields, "image", "photo", "thumbnailurl")
    addresses = (address_of(image) for image in (images if isinstance(images, list) else [images]))
    return list(dict.fromkeys(address for address in addresses if address))


_INGREDIENTS = ("recipeingredient", "recipeingredients", "ingredients", "ingredient")
_INSTRUCTIONS = ("recipeinstructions", "recipeinstruction", "instructions", "step", "steps")


def _as_it_is(text: str) -> str:
    return text


def _unescaped(text: str) -> str:
    # Some sites escape the script as if it were text: &quot;name&quot;.
    return _mended(html.unescape(text))


def _mended(text: str) -> str:
    """Return JSON without commas before a closing bracket and with escapes that JSON knows."""

    def part(match: re.Match[str]) -> str:
        if match[0] == ",":
            return ""
        # A backslash before anything else stands for that character, as in JavaScript.
        return _BAD_ESCAPE.sub(lambda escape: escape[0] if escape[1] else escape[2], match[0])

    return _STRING_OR_COMMA.sub(part, text)


def _types(node: Mapping[str, Any]) -> set[str]:
    """Return an object's types in lower case, without prefixes such as `schema:`."""
    kinds = node.get("@type", node.get("type"))
    return {
        last_part(word).lower()
        for kind in (kinds if isinstance(kinds, list) else [kinds])
        if isinstance(kind, str)
        for word in kind.replace(",", " ").split()
    }


def _resolved(node: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return an object with the nodes that its properties point to in their places."""

    def target(value: Any) -> Any:
        if isinstance(value, list):
            return [target(item) for item in value]
        if isinstance(value, Mapping) and set(value) == {"@id"} and isinstance(value["@id"], str):
            return by_id.get(value["@id"], value)
        return value

    return {key: target(value) for key, value in node.items()}
