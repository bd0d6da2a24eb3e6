"""Ingredient names by the first rules (`reader: 1`), for models that were trained with them.

It stays because such models stay: a model learnt which id follows from which line, so that other
rules would give it ids that it never saw there, and an index built before would hold other recipes
than a search reads. So nothing changes here, not even what is wrong; the rules of new models are in
`ingredients.py`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container

from .words import words

MAX_NAME_WORDS = 4
MAX_LINE = 4000  # brackets in brackets take a time that grows with the square

_UNITS = frozenset(
    "bag bags ball balls bar bars batch batches block blocks bottle bottles bowl box boxes bunch "
    "bunches c can cans carton cartons centimeter clove cloves cl cm container containers cube "
    "cubes cup cups dash dashes dl dozen drizzle drop drops ear ears envelope envelopes fl g gal "
    "gallon gallons gm gms gr gram grams gramm half handful handfuls head heads inch inches jar "
    "jars kg kilo kilogram kilograms kilos knob l lb lbs leaf leaves liter liters litre litres "
    "loaf log mg milliliters ml mls ounce ounces oz pack package packages packet packets packs "
    "part parts piece pieces pinch pinches pint pints pkg pkgs pkt pound pounds pt qt quart "
    "quarter quarts rib ribs scoop scoops serving shot slab slice slices splash sprig sprigs "
    "sprinkle squeeze stalk stalks stem stems stick sticks strip strips t tablespoon tablespoons "
    "tb tbl tbls tbs tbsp tbsps tea teaspoon teaspoons tin tins tsp tsps tub tubs unit "
    "units".split()
)
_PREPARATIONS = frozenset(
    "about additional approx approximately baked beaten big blanched boiled boiling boneless "
    "broken bruised brushed canned chilled chopped chunks coarse coarsely cold cooked cooled "
    "cored crumbled crushed cubed cut defrosted deveined diced divided drained dried dry extra "
    "fat favorite favourite fine finely firmly fresh freshly frozen garnish generous good grated "
    "ground halved heaped heaping heavy homemade hot huge julienned jumbo large leftover "
    "lightly little loosely low lukewarm mashed medium melted mince minced mini optional organic "
    "packed peeled pitted pressed prepared preferably quality quartered raw rinsed ripe roasted "
    "room rounded roughly scant seeded seedless separated shaved shelled shredded sifted size "
    "sized skinless skinned sliced slightly slivered small snipped softened soft squeezed "
    "squished steamed temperature thawed thick thickly thin thinly toasted tightly torn trimmed "
    "uncooked unpeeled virgin warm washed whisked whole yummy zested".split()
)
_STOP_WORDS = frozenset(
    "a add all amount an another any approx at each enough eight enough few fifteen five four "
    "full just lots many more most my nine of on one other our quite recipe roughly s seven "
    "several six some ten th that the this three twelve two use used using very x you "
    "your".split()
)
_LEFT_OUT = _UNITS | _PREPARATIONS | _STOP_WORDS
# What belongs to the name before these words: ground beef is bought, ground cumin is cumin.
_NAMED_BEFORE = {
    "all": {"purpose"},
    "canned": {"tuna", "pumpkin"},
    "cold": {"cuts"},
    "dried": {"fruit", "cranberries", "cherries", "apricots"},
    "dry": {"milk", "mustard", "sherry", "white", "red", "wine", "vermouth", "ranch"},
    "fat": {"free"},
    "five": {"spice"},
    "ground": {"beef", "chicken", "chuck", "lamb", "meat", "pork", "sausage", "turkey", "veal"},
    "half": {"and", "half"},
    "heavy": {"cream", "whipping"},
    "hot": {"chili", "dog", "dogs", "fudge", "pepper", "sauce"},
    "low": {"fat"},
    "medium": {"grain"},
    "slivered": {"almonds"},
    "small": {"curd"},
    "soft": {"cheese"},
    "tea": {"bag", "bags", "leaves"},
    "thick": {"cream"},
    "whole": {"grain", "milk", "wheat"},
}
_NAMED_AFTER = {
    "fat": {"goose", "duck", "low", "bacon", "chicken"},
    "half": {"half", "and"},
    "leaf": {"bay", "lime"},
    "leaves": {"bay", "lime", "curry", "tea"},
    "mince": {"beef", "lamb", "pork", "turkey"},
    "tea": {"black", "green"},
}
_HALF_AND_HALF = re.compile(r"\bhalf[ -]and[ -]half\b")

_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_UNCLOSED = re.compile(r"[(\[].*")
_CLAUSE_END = re.compile(
    r"[,;:|+~*]|\.(?!\d)|(?<!\d)/|/(?!\d)|\s[-\u2013\u2014]+\s|[\u2013\u2014]"
    r"|(?<=\s)(?:or|and|plus|for|to|in|into|with|without|such|see|as|if|from|until|per|every|which"
    r"|cut|cover|like|&)(?=\s|$)"
)


def ingredient_name(line: str) -> list[str]:
    """Return the words of a line that name its first ingredient, as the line spells them.

    Args:
        line: free text, such as "3 skinless chicken breasts (or thighs), cut into cubes".

    Returns:
        the name's words in lower case (`["chicken", "breasts"]`); empty where nothing is named.
    """
    line = line[:MAX_LINE]
    text = unicodedata.normalize("NFKC", line).lower().replace("\u2044", "/")
    text = _HALF_AND_HALF.sub("half-and-half", text)  # joined, or "and" would end the clause
    while (shorter := _BRACKETS.sub(" ", text)) != text:
        text = shorter
    clauses = [
        [word for word in words(clause) if not word[0].isdigit()]
        for clause in _CLAUSE_END.split(_UNCLOSED.sub("", text))
    ]
    for clause in clauses:
        if name := _without_measures(clause):
            return name
    # "2 cloves", "1 tsp ground cloves": a unit that stands alone is the thing itself.
    for clause in clauses:
        if plain := [
            word for word in clause if word not in _STOP_WORDS and word not in _PREPARATIONS
        ]:
            return plain[-1:]
    return []


def ingredient_phrase(line: str, vocabulary: Container[str]) -> str | None:
    """Return the vocabulary's longest name for the ingredient of a line.

    Args:
        line: free text, such as "2 cups of finely chopped fresh basil".
        vocabulary: known words; a name of several words is joined by `_` (`olive_oil`).

    Returns:
        the name as the vocabulary spells it, or None where nothing of the line is known.
    """
    line = line[:MAX_LINE]
    name = ingredient_name(line)
    phrase = _longest_match(name, vocabulary) or _longest_match(
        [_other_number(word) for word in name], vocabulary
    )
    if phrase is not None:
        return phrase
    rest = [word for word in words(line) if word not in _LEFT_OUT and not word[0].isdigit()]
    return _longest_match(rest, vocabulary)


def _longest_match(name: list[str], vocabulary: Container[str]) -> str | None:
    # The head noun of an English name stands last ("brown sugar"): look from the right.
    for size in range(min(MAX_NAME_WORDS, len(name)), 0, -1):
        for start in range(len(name) - size, -1, -1):
            phrase = "_".join(name[start : start + size])
            if phrase in vocabulary:
                return phrase
    return None


def _without_measures(clause: list[str]) -> list[str]:
    name: list[str] = []
    for position, word in enumerate(clause):
        following = clause[position + 1] if position + 1 < len(clause) else ""
        before = clause[position - 1] if position else ""
        named = following in _NAMED_BEFORE.get(word, ()) or before in _NAMED_AFTER.get(word, ())
        if named or word not in _LEFT_OUT:
            name.append(word)
    return name


def _other_number(word: str) -> str:
    """Return `tomatoes` for `tomato` and the other way round, by the regular endings."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("oes", "ches", "shes", "sses", "xes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    if word.endswith(("o", "ch", "sh", "ss", "x")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in set("aeiou"):
        return word[:-1] + "ies"
    return word + "s"
