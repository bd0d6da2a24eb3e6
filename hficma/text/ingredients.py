"""From "2 cups of finely chopped fresh basil" to the ingredient that it names.

Rules, in the order of an English ingredient line: quantity, unit, preparation, name, remarks.
Nothing is learned or fetched, so indexing and search read a line alike on every machine. The words
that the rules know are in `ingredient_words.py`.

These are the rules of `reader: 2`. A model goes on with those that it was trained with, so that a
change of what a line gives is a new number, beside this file: `ingredients_v1.py` has the first.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from .inflection import fold, plural, singular
from .ingredient_words import (
    ADJECTIVES,
    FUNCTION_WORDS,
    GENERIC,
    LEFT_OUT,
    NAMED_AFTER,
    NAMED_BEFORE,
    PARTS,
    SHARED_HEADS,
    THINGS,
)
from .words import words

MAX_NAME_WORDS = 4
"""Words of the longest name that is looked up."""
MAX_LINE = 400
"""Characters of a line that are read. A name stands early, and what follows may be a page gone
wrong, on which the rules would take a time that grows with its square."""

# "Barilla® elbows", "KRAFT Shredded Cheese": a brand that opens the line or follows its measures.
_MARKED_BRAND = re.compile(r"(?:[A-Z][\w'\u2019&.-]*\s+){0,3}[\w'\u2019&.-]+\s?[\u00ae\u2122]\s*")
_MARKS = {ord("\u00ae"): " ", ord("\u2122"): " "}
_MARKED = re.compile(r"[\u00ae\u2122]|[A-Z]['\u2019&.-]?[A-Z]")
_CAPITAL_BRAND = re.compile(r"(?<![^\s(])(?:[A-Z][A-Z'\u2019&.-]{3,}\s+)+(?=[A-Z]?[a-z])")
_BRACKET = re.compile(r"[()\[\]]")
_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_UNCLOSED = re.compile(r"[(\[].*")
# Joined, or "and" would end the clause.
_JOINED = re.compile(
    r"\b(half|sweet|macaroni|mac|pork|cookies|bread)[ -](?:and|&|n)[ -]"
    r"(half|sour|cheese|beans|cream|butter)\b"
)
_INCHES = re.compile(r"(?<=\d)[\s-]*in\b\.?|(?<=\d)[\"\u201d\u2033]")
# Phrases of preparation whose single words can be names.
_PHRASES = re.compile(
    r"\b(?:(?:bone|skin|head|shell|tail|stem)s?[ -](?:in|on|off)|ready[ -]to[ -]\w+|no[ -]salt"
    r"[ -]added|day[ -]old|(?:store|shop)[ -]bought|hard[ -](?:boiled|cooked)|soft[ -]boiled"
    r"|(?:free|cage)[ -](?:range|free)|grass[ -]fed|(?:thick|center|centre|fresh)[ -]cut"
    r"|de-seeded|inch[ -]long|low[ -]moisture|(?:even|fist|medium)[ -]sized?"
    r"|(?:dessert|table)[ -]?spoons?|tea[ -]?spoons?|luke[ -]warm|fire[ -]roasted|vine[ -]ripened"
    r"|bite[ -]sized?|ice[ -]cold|freeze[ -]dried|sun[ -]ripened|(?:best|good|high)[ -]quality)\b"
)
_PART_OF = re.compile(
    rf"^[^\w]*(?:\w+ly[ -]|\w+ed[ -]|fresh[ -]|the[ -])*(?:{'|'.join(sorted(PARTS))})\b"
    rf"(?:\s*(?:and|&|\+|plus|,|/)\s*(?:\w+ly[ -])?(?:\w+ed[ -])?(?:{'|'.join(sorted(PARTS))})\b)*"
    r"\s*(?:(?:of|from)\b|(?=\d|half\b|one\b|two\b|an?\b))"
)
_HEAD_WORDS = (
    r"accompaniments?|base|batter|brine|broth|cake|coating|cream|crust|decorations?|dough|dressing"
    r"|equipment|filling|for\b.*|frosting|garnish(?:es)?|glaze|gravy|icing|marinade|optional|pastry"
    r"|rub|salad|sauce|serving|special equipment|stuffing|suggestions?|to\b.*|toppings?"
)
_HEADED = re.compile(rf"^[^\w]*(?:{_HEAD_WORDS})\s*:\s*(?=\S)")
_EQUIPMENT = re.compile(r"^[^\w]*(?:special )?equipment\b")
_USES = r"(?:for|to) (?:brush|coat|dust|fry|garnish|greas|roll|serv|sprinkl|tast|top)\w*"
_REMARK_FIRST = re.compile(rf"^[^\w]*(?:{_USES}(?=\s+\w)|(?:for|to)\b[^,:]*[,:])\s*")
_HEAD_BY_USE = re.compile(rf"[^\w]*(?!{_USES}\s+\w)(?:for|to)\b[^,:]*$")
_HEAD_BY_COLON = re.compile(r":[^\w]*$")
_RULE_BEFORE, _RULE_AFTER = re.compile(r"[^\w\s(\[]{2}"), re.compile(r"[^\w\s)\].]{2}$")

_CLAUSE_END = re.compile(
    r"([,;:|+~]|\*(?!\w)|(?<!\w)\*|\.(?!\d)|(?<!\d)/|/(?!\d)|\s[-\u2013\u2014]+\s|[\u2013\u2014]|(?<!\bm)&"
    r"|(?<=\s)(?:or|and|plus|for|to|in|into|with|without|such|see|as|if|from|until|per|every|which"
    r"|cut|cover|like)(?=\s|$))"
)
# What follows one of these names another ingredient, or the same again; after the others (for
# serving, in cubes, as needed) stand remarks.
_BEFORE_NAMES = frozenset(",;/|+&:") | {"or", "and", "plus", "such", "like"}


_SHARING = {
    head: frozenset(sharing.split())
    for heads, sharing in SHARED_HEADS.items()
    for head in heads.split()
}

_BEFORE_REMARKS = frozenset(
    "for to in into with without see as if from until per every which cut cover".split()
)


class _Clause(NamedTuple):
    """A part of a line between commas, "or", "for" and the like."""

    words: list[str]
    """Its words in lower case, numbers left out."""
    before: str
    """What parts it from the clause before; empty for the first."""


def is_section_head(line: str) -> bool:
    """Return whether a line of a list of ingredients heads a part of it: "For the sauce:"."""
    text = unicodedata.normalize("NFKC", line[:MAX_LINE])
    text = _BRACKETS.sub(" ", text).strip().lower()
    if not text or any(character.isdigit() for character in text):
        return False
    if text.startswith("#"):  # Markdown, in which Mela keeps its lists
        return True
    ruled = _RULE_BEFORE.match(text) and _RULE_AFTER.search(text)
    return bool(ruled or _HEAD_BY_COLON.search(text) or _HEAD_BY_USE.match(text))


def ingredient_name(line: str) -> list[str]:
    """Return the words of a line that name its first ingredient, as the line spells them.

    Args:
        line: free text, such as "3 skinless chicken breasts (or thighs), cut into cubes".

    Returns:
        the name's words in lower case (`["chicken", "breasts"]`); empty where nothing is named,
        as by the head of a section.
    """
    return list(_name_words(line[:MAX_LINE]))


@lru_cache(maxsize=4096)  # the common ones; a tokenizer remembers more
def _name_words(line: str) -> Sequence[str]:
    """Return the words of the first name of a line; see `ingredient_name`."""
    if is_section_head(line):
        return ()
    clauses = _clauses(line)
    # "3 large (or 4 small onions)": what brackets hold counts where nothing stands outside.
    if name := _first_name(clauses):
        return name
    if _has_brackets(line):
        inside = [c for c in _clauses(line, bracketed=True) if c.before not in _BEFORE_REMARKS]
        if name := _first_name(inside):
            return name
    # "2 cloves", "1 tsp ground cloves": a unit that stands alone is the thing itself.
    for clause in clauses:
        if things := [word for word in clause.words if word in THINGS]:
            return things[-1:]
    return ()


def ingredient_phrase(line: str, vocabulary: Container[str]) -> str | None:
    """Return the vocabulary's longest name for the ingredient of a line.

    Args:
        line: free text, such as "2 cups of finely chopped fresh basil".
        vocabulary: known words; a name of several words is joined by `_` (`olive_oil`).

    Returns:
        the name as the vocabulary spells it, or None where nothing that the line names is known.
    """
    line = line[:MAX_LINE]
    name = _name_words(line)
    if (phrase := _known(name, vocabulary)) is not None:
        return phrase
    if not name and is_section_head(line):
        return None
    # "1 kohlrabi (or turnip)": another clause may name what is known.
    for clause in _clauses(line, bracketed=_has_brackets(line)):
        if not clause.before or clause.before in _BEFORE_NAMES:
            rest = [word for word in _without_measures(clause.words) if not _is_participle(word)]
            if (phrase := _known(rest, vocabulary)) is not None:
                return phrase
    return None


def _first_name(clauses: Sequence[_Clause]) -> list[str]:
    """Return the first name in clauses, with what it shares with those behind it."""
    for place, clause in enumerate(clauses):
        name = _without_measures(clause.words)
        if name and _is_adjective(name):
            return _described(name, clauses[place + 1 :])
        if name:
            return _with_shared_head(name, clauses[place + 1 :])
    return []


def _has_brackets(line: str) -> bool:
    """Return whether a line has a bracket."""
    return "(" in line or "[" in line


@lru_cache(maxsize=64)  # a line of which no name is known is split a second time
def _clauses(line: str, *, bracketed: bool = False) -> Sequence[_Clause]:
    """Split a line into the parts that may name something, without brackets, brands and lengths.

    Args:
        line: as written.
        bracketed: read what stands in brackets too.
    """
    # Brands first: NFKC makes letters of a trademark sign.
    text = unicodedata.normalize("NFKC", _without_brand(line)).replace("\u2044", "/").lower()
    # Most lines hold none of what these look for, and to ask so first takes half the time off.
    if "and" in text or "&" in text or " n " in text:
        text = _JOINED.sub(r"\1-and-\2", text)
    if _has_brackets(text):
        if bracketed:
            text = _BRACKET.sub(" ", text)
        while (shorter := _BRACKETS.sub(" ", text)) != text:
            text = shorter
        text = _UNCLOSED.sub("", text)
    if "equipment" in text and _EQUIPMENT.match(text):
        return []
    for remark in (_HEADED, _REMARK_FIRST):
        rest = remark.sub("", text)
        if rest != text and any(word.isalpha() and word not in LEFT_OUT for word in words(rest)):
            text = rest
    text = _PART_OF.sub(" ", _INCHES.sub(" ", text))
    parts = _CLAUSE_END.split(_PHRASES.sub(" ", text))
    return [
        _Clause([word for word in words(part) if not word[0].isdigit()], before.strip())
        for before, part in zip(["", *parts[1::2]], parts[::2], strict=True)
    ]


def _without_brand(text: str) -> str:
    """Cut out a brand, by its sign or its capitals, where a name is left behind it."""
    if not _MARKED.search(text):
        return text
    for brand in (_MARKED_BRAND, _CAPITAL_BRAND):
        if (match := brand.search(text)) is not None:
            shorter = text[: match.start()] + text[match.end() :]
            rest = [w for w in words(_CLAUSE_END.split(shorter[match.start() :])[0]) if w.isalpha()]
            if any(w not in LEFT_OUT for w in rest) and not (len(rest) == 1 and rest[0] in GENERIC):
                text = shorter
                break
    return text.translate(_MARKS)


def _without_measures(clause: Sequence[str]) -> list[str]:
    """Return the words of a clause that name something: no units, numbers or preparation."""
    name: list[str] = []
    for position, word in enumerate(clause):
        following = clause[position + 1] if position + 1 < len(clause) else ""
        before = clause[position - 1] if position else ""
        is_named = following in NAMED_BEFORE.get(word, ()) or before in NAMED_AFTER.get(word, ())
        # "cream of tartar", "half-and-half": inside a name.
        inside = name[-1:] == [before] and (
            word == "and" or (word == "of" and following not in LEFT_OUT)
        )
        if is_named or inside or word not in LEFT_OUT:
            name.append(word)
    # "butter unsalted", "lemons juiced": what follows the name describes it.
    while name and (
        name[-1] in ("of", "and")
        or (len(name) > 1 and (_is_participle(name[-1]) or name[-1] in ("salted", "unsalted")))
    ):
        name.pop()
    return name


def _is_participle(word: str) -> bool:
    """Return whether a word is "scraped" or "unpeeled", and no "flaxseed"."""
    return len(word) > 4 and word.endswith("ed") and not word.endswith(("seed", "weed"))


def _is_adjective(name: Sequence[str]) -> bool:
    """Return whether a name holds nothing but adjectives: "fresh", "large red"."""
    return all(word in ADJECTIVES or _is_participle(word) for word in name)


def _described(adjectives: list[str], clauses: Sequence[_Clause]) -> list[str]:
    """Return the name that adjectives of an earlier clause stand before.

    "unbleached, all-purpose flour" is all purpose flour, "red or green onion" red onion.
    """
    for clause in clauses:
        if clause.before not in (",", "or", "and", "/", "&"):
            break
        name = _without_measures(clause.words)
        if not name or _is_adjective(name):
            continue
        if clause.before == "," or _is_participle(adjectives[-1]):
            return name
        head = name[min(len(adjectives), len(name) - 1) :]
        return [*adjectives, *head] if name[0] in ADJECTIVES else name
    return adjectives


def _with_shared_head(name: list[str], clauses: Sequence[_Clause]) -> list[str]:
    """Give "chicken" of "chicken or vegetable stock" the head that both share."""
    for clause in clauses if len(name) == 1 else ():
        other = _without_measures(clause.words)
        if len(other) > 1:  # "avocado, peanut, or canola oil": the first that has a head
            if clause.before in ("or", "/", "and") and name[0] in _SHARING.get(other[-1], ()):
                return [*name, other[-1]]
            break
        if clause.before not in (",", "or", "/", "and"):
            break
    return name


def _known(name: Sequence[str], vocabulary: Container[str]) -> str | None:
    """Return the longest part of a name that is known, as spelled or in other forms."""
    for spelled in _spellings(name):
        if (phrase := _longest_match(spelled, vocabulary)) is not None:
            return phrase
    return None


def _spellings(name: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield a name as it stands, in the singular, and with its last or all words in the plural."""
    yield name
    one = [singular(fold(word)) for word in name]
    if one != list(name):
        yield one
    if one:
        yield [*one[:-1], plural(one[-1])]
        if len(one) > 1:
            yield [plural(word) for word in one]


def _longest_match(name: Sequence[str], vocabulary: Container[str]) -> str | None:
    """Return the longest run of a name's words that is in the vocabulary."""
    # The head noun of an English name stands last ("brown sugar"): look from the right.
    for size in range(min(MAX_NAME_WORDS, len(name)), 0, -1):
        for start in range(len(name) - size, -1, -1):
            phrase = "_".join(name[start : start + size])
            if phrase in vocabulary and phrase not in FUNCTION_WORDS:
                return phrase
            # "chick peas" are no peas where chickpeas are known.
            if size == 2:
                joined = "".join(name[start : start + 2])
                for spelled in (joined, joined.removesuffix("s"), f"{joined}s"):
                    if spelled in vocabulary:
                        return spelled
    return None
