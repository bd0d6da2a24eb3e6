"""schema.org Recipes (JSON-LD), as recipe sites publish them, alone or inside saved HTML pages.

https://schema.org/Recipe. Of the format only what a recipe needs is read, so the standard
library's HTML and JSON parsers do.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any

from hficma.errors import InputError
from hficma.recipe import Recipe

MAX_DEPTH = 40
_TAG = re.compile(r"<[^<>]*>")
_SPACE = re.compile(r"[^\S\n]+")


def json_ld_blocks(page: str) -> list[str]:
    """The JSON-LD scripts of an HTML page."""
    parser = _Scripts()
    parser.feed(page)
    parser.close()
    return parser.found


def is_json_ld(value: object) -> bool:
    """Whether a decoded JSON value is JSON-LD rather than plain records."""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, Mapping) and any(
        key in first for key in ("@context", "@type", "@graph")
    )


def decode_block(block: str, where: str) -> object:
    """Decode a JSON-LD script; sites put raw line breaks into strings, which are let pass.

    Raises:
        InputError: it is not JSON.
    """
    try:
        return json.loads(block.strip().removesuffix(";"), strict=False)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: its JSON-LD is not valid JSON ({error})") from error


def recipe_nodes(value: object, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """The Recipe objects in decoded JSON-LD, in order, wherever a page nests them."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, list):
        for item in value:
            yield from recipe_nodes(item, depth + 1)
    elif isinstance(value, Mapping):
        if "Recipe" in _types(value):
            yield value
            return
        for key in ("@graph", "mainEntity", "mainEntityOfPage", "itemListElement", "item"):
            yield from recipe_nodes(value.get(key), depth + 1)


def to_recipe(node: Mapping[str, Any], *, where: str) -> Recipe:
    """A Recipe object as the project's recipe; `image` is the first photo's address.

    Raises:
        InputError: it holds no ingredients, or fields of the wrong kind.
    """
    images = image_addresses(node)
    record = {
        "title": _text(node.get("name")) or "",
        "ingredients": list(_texts(node.get("recipeIngredient") or node.get("ingredients"))),
        "instructions": list(_texts(node.get("recipeInstructions"))),
        "image": images[0] if images else None,
        "url": _address(node.get("url")) or _address(node.get("mainEntityOfPage")),
        "category": _text(node.get("recipeCategory")),
    }
    return Recipe.parse(record, where=where)


def image_addresses(node: Mapping[str, Any]) -> list[str]:
    """The addresses of a Recipe's photos as written: URLs or paths."""
    images = node.get("image")
    found = (_address(image) for image in (images if isinstance(images, list) else [images]))
    return [address for address in found if address]


class _Scripts(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[str] = []
        self._block: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kind = (dict(attrs).get("type") or "").partition(";")[0].strip().lower()
        if tag == "script" and kind == "application/ld+json":
            self._block = []

    def handle_data(self, data: str) -> None:
        if self._block is not None:
            self._block.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script" and self._block is not None:
            self.found.append("".join(self._block))
            self._block = None


def _types(node: Mapping[str, Any]) -> list[str]:
    kinds = node.get("@type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    return [kind.rpartition("/")[2] for kind in kinds if isinstance(kind, str)]


def _text(value: object, depth: int = 0) -> str | None:
    """Text without tags and entities; of a list the first."""
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, str):
        return None
    plain = _TAG.sub(" ", html.unescape(html.unescape(value)))
    return _SPACE.sub(" ", plain).strip()


def _texts(value: object, depth: int = 0) -> Iterator[str]:
    """Lines of ingredients or instructions: text, HowToStep, HowToSection, lists of them."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, str):
        for line in re.split(r"\n+|<br ?/?>|</?(?:p|li|ol|ul)>", html.unescape(value)):
            if text := _text(line):
                yield text
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, depth + 1)
    elif isinstance(value, Mapping):
        parts = value.get("itemListElement") or value.get("steps")
        yield from _texts(parts or value.get("text") or value.get("name"), depth + 1)


def _address(value: object) -> str | None:
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, Mapping):
        value = value.get("url") or value.get("contentUrl") or value.get("@id")
    return value.strip() if isinstance(value, str) and value.strip() else None
