"""What others call a recipe's fields, and the shapes that they give them.

Recipe managers, data sets and programs agree on what a recipe is, but not on its words: directions,
method, steps; an ingredient as text, or as an object of amount, unit and food. Here are
the words that are known, for JSON, JSONL and CSV alike, and what makes lines of the shapes.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .markup import marked_lines, plain_lines, plain_text
from .text_lists import list_literal, listed_lines

log = logging.getLogger("hficma")

MAX_DEPTH = 40
"""Lists and objects inside each other that are looked into."""
NEAR = 0.72
"""Likeness from which an unknown key counts as a slip of a known one ("ingrediants": 0.91)."""
MAX_UNKNOWN_KEYS = 100
"""Keys named of one source: a file whose keys are data (names, ids) would fill the screen."""

FIELDS = ("id", "title", "ingredients", "instructions", "image", "partition", "url", "category")

# Compared in lower case, letters and digits only: "Recipe_Name" and "recipeName" are one. The
# first that has a value is taken, so that the plainest word stands first.
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("uid", "uuid", "recipeid", "_id"),
    "title": ("name", "recipename", "recipetitle", "dish", "dishname", "headline", "label"),
    "ingredients": (
        "recipeingredient", "recipeingredients", "ingredientlines", "ingredientlist",
        "ingredientslist", "extendedingredients", "ingredient", "zutaten", "ingredientes",
        "ingredientgroups", "recipeingredientparts",
    ),
    "instructions": (
        "directions", "method", "steps", "recipeinstructions", "recipeinstruction",
        "analyzedinstructions", "preparation", "preparationsteps", "procedure", "recipedirections",
        "instruction", "direction", "instructionlist", "cookinginstructions", "cookingdirections",
        "howto", "zubereitung", "instructionslist",
    ),
    "image": (
        "photo", "picture", "imagepath", "imagefile", "imagename", "photopath", "photoname",
        "imageurl", "photourl", "pictureurl", "img", "images", "photos", "pictures", "imgpath",
        "originalpicture", "picturelink", "thumbnail", "thumbnailurl", "imagelink",
    ),
    "partition": ("split", "subset"),
    "url": (
        "link", "sourceurl", "orgurl", "originalurl", "canonicalurl", "recipeurl", "href", "uri",
        "source", "publicurl", "isbasedon", "mainentityofpage",
    ),
    "category": (
        "recipecategory", "categories", "course", "courses", "mealtype", "dishtype", "dishtypes",
        "class", "recipetype",
    ),
}  # fmt: skip

# Known, and of no use here: nothing is said about them.
_UNUSED = frozenset(
    """
    author authors cuisine recipecuisine cuisines description summary notes note comments comment
    tags tag keywords keyword rating ratings stars aggregaterating review reviews nutrition
    nutritionalinfo nutritioninformation calories fat protein carbohydrates sugar sodium
    fiber saturatedfat cholesterol carbohydrate nutrients
    yield yields servings serves recipeyield recipeservings servingstext portions makes quantity
    preptime cooktime totaltime time times duration minutes performtime workingtime waitingtime
    preparationtime cookingtime inactivetime readyinminutes datepublished datemodified dateadded
    dateupdated datecreated created modified updated createdat updatedat updateat submitted added
    language locale lang difficulty level equipment tool tools cookware video videos hash photohash
    photodata photolarge context type graph slug public private favorite favourite isfavorite
    starred archived internal index number extras assets settings userid groupid householdid
    contributorid ner nsteps ningredients cleanedingredients license licence copyright publisher
    sitename host site sourcename version diet suitablefordiet course2 equipmentlist cost
    nutritionalscore urlhost mainingredient scale showpagebreaks recipecuisine photocount unnamed0
    """.split()
)
_KEPT = re.compile(r"[\W_]+")


def plain_key(key: str) -> str:
    """Return a key in lower case, letters and digits only."""
    return _KEPT.sub("", key).lower()


_FIELD_OF = {
    **{plain_key(name): field for field, names in OTHER_NAMES.items() for name in names},
    **{field: field for field in FIELDS},
}


def field_of(key: str) -> str | None:
    """Return the field that a key names, by its own name or another usual one."""
    return _FIELD_OF.get(plain_key(key))


class UnknownKeys:
    """Names a source's unknown keys, each once, with the nearest known one.

    Args:
        where: the source's name.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._seen: set[str] = set()

    def note(self, key: str) -> None:
        """Name a key in a line of the log, unless it was named before."""
        if key in self._seen or len(self._seen) > MAX_UNKNOWN_KEYS:
            return
        self._seen.add(key)
        if len(self._seen) > MAX_UNKNOWN_KEYS:
            log.warning("%s: more than %d unknown keys", self._where, MAX_UNKNOWN_KEYS)
            return
        near = nearest_field(key)
        meant = f"; did you mean {near!r}?" if near else f"; known are {', '.join(FIELDS)}"
        log.warning("%s: the key %r is unknown and passed over%s", self._where, key[:80], meant)


def nearest_field(key: str) -> str | None:
    """Return the field whose name, or other name, an unknown key is nearly."""
    near = difflib.get_close_matches(plain_key(key)[:40], _FIELD_OF, n=1, cutoff=NEAR)
    return _FIELD_OF[near[0]] if near else None


def known_fields(record: Mapping[str, Any], unknown: UnknownKeys | None = None) -> dict[str, Any]:
    """Return a record under the project's own names, its shapes made texts and lists of texts.

    A field under its own name goes before one under another name.

    Args:
        record: any JSON object.
        unknown: told of keys that are not known.
    """
    found: dict[str, list[tuple[int, Any]]] = {}
    for key, value in record.items():
        plain = plain_key(str(key))
        field = field_of(str(key))
        if field is None:
            if unknown is not None and plain not in _UNUSED and plain:
                unknown.note(str(key))
        elif value not in (None, "", [], {}):
            rank = 0 if key == field else 1 + (*OTHER_NAMES[field], field).index(plain)
            found.setdefault(field, []).append((rank, value))
    fields: dict[str, Any] = {}
    for field, values in found.items():
        rank, value = min(values, key=lambda pair: pair[0])
        fields[field] = value if rank == 0 else _shaped(field, value)
    # "source" is an address with some, the name of a book or an aunt with others.
    if "url" not in record and not str(fields.get("url")).startswith(("http://", "https://")):
        fields.pop("url", None)
    return fields


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
        return next((found for item in value if (found := address_of(item, depth + 1))), None)
    if isinstance(value, Mapping):
        value = first_of(
            plain_fields(value), "url", "contenturl", "@id", "@value", "path", "filename", "src"
        )
    # What is longer is no address but the photo itself, as base64.
    return value.strip() or None if isinstance(value, str) and len(value) < 4096 else None


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


def _shaped(field: str, value: Any) -> Any:
    """Return a value that came under another name as the field's own kind, where it can be."""
    if field == "ingredients":
        return list(ingredient_lines(value))
    if field == "instructions":
        return list(step_lines(value))
    if field in ("image", "url"):
        return address_of(value)
    if field == "id":
        return value if isinstance(value, (str, int)) else None
    return text_of(value)


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
