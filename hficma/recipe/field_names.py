"""What others call a recipe's fields.

Recipe managers, data sets and programs agree on what a recipe is, but not on its words: directions,
method, steps. Here are the words that are known, for JSON, JSONL and CSV alike; the shapes of their
values are in `field_shapes.py`.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping
from typing import Any

from .field_shapes import address_of, ingredient_lines, step_lines, text_of

log = logging.getLogger("hficma")

NEAR = 0.72
"""Likeness from which an unknown key counts as a slip of a known one ("ingrediants": 0.91)."""
MAX_UNKNOWN_KEYS = 100
"""Keys named of one source: a file whose keys are data (names, ids) would fill the screen."""

FIELDS = ("id", "title", "ingredients", "instructions", "image", "partition", "url", "category")
"""The fields of a `Recipe`, under their own names."""

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
_SEPARATORS = re.compile(r"[\W_]+")


def plain_key(key: str) -> str:
    """Return a key in lower case, letters and digits only."""
    return _SEPARATORS.sub("", key).lower()


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
    """Return a record under the project's own names, its values as texts and lists of texts.

    A field under its own name goes before one under another name.

    Args:
        record: any JSON object.
        unknown: notes keys that are not known.
    """
    # Field to (rank of the key's name, value) of every key that names it.
    candidates: dict[str, list[tuple[int, Any]]] = {}
    for key, value in record.items():
        plain = plain_key(str(key))
        field = field_of(str(key))
        if field is None:
            if unknown is not None and plain not in _UNUSED and plain:
                unknown.note(str(key))
        elif value not in (None, "", [], {}):
            rank = 0 if key == field else 1 + (*OTHER_NAMES[field], field).index(plain)
            candidates.setdefault(field, []).append((rank, value))
    fields: dict[str, Any] = {}
    for field, values in candidates.items():
        rank, value = min(values, key=lambda pair: pair[0])
        fields[field] = value if rank == 0 else _shaped(field, value)
    # "source" is an address with some, the name of a book or an aunt with others.
    if "url" not in record and not str(fields.get("url")).startswith(("http://", "https://")):
        fields.pop("url", None)
    return fields


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
