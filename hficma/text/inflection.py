"""Words as filters and the ingredient reader compare them: one spelling for each thing.

"3 Jalapeños", "jalapeno" and "JALAPEN\u0303OS" are one word: accents, case, ligatures and plurals
are taken off. What is left is compared, and shown where a word is offered, so it is a real word.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import inflect

RULES = 2
"""Raised whenever a word may come out otherwise than before: a shard of an index notes it, and one
of other rules is read again instead of looked up. 0 are the rules before this module, 1 those that
kept "&" from being "and" and lasagna from being lasagne."""

# What NFKD leaves whole, and apostrophes and invisible characters that change no word.
_LETTERS = str.maketrans(
    {
        "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ħ": "h", "ı": "i",
        "\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u2032": "'", "\u00b4": "'", "`": "'",
        "\u00ad": None, "\u200b": None, "\u200c": None, "\u200d": None, "\u2060": None,
        "\ufeff": None,
    }
)  # fmt: skip
# Accents. Marks outside this block are letters of their scripts: Hindi's vowels, kana's voicing.
_ACCENTS = re.compile("[\u0300-\u036f]")
# Scripts written without spaces give a word a character, so that words side by side are a
# substring. Then letters with the vowel marks of India's scripts, which `\w` leaves out.
_UNSPACED = (
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17d3\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
)
_MARKS = "\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0971-\u0dff"
_WORD = re.compile(
    rf"{_UNSPACED}|(?:[^\W\d_]|[{_MARKS}])+(?:'(?:[^\W\d_]|[{_MARKS}])+)*|\d+(?:[./]\d+)?"
)

# inflect cuts the s of every one of these ("hummu"), as it does with all words in -us; those in -is
# are as often plurals (kiwis). French words in -ais, -ois and Greek ones in -sis stay too.
_SINGULAR_IS = frozenset(
    "anis aegis bris brewis cannabis cassis chablis chassis clovis coulis davis dolcis ellis epis "
    "gris haggis hollis his iris is lewis lis louis memphis paris pastis patis penis tamis tennis "
    "this willis".split()
)
_SINGULAR_ENDINGS = ("ss", "us", "ais", "ois", "sis", "xis")
# Read off all 9,304 distinct words of the ingredient lines of 75,082 recipes.
_IRREGULAR = {
    # Another thing without its s, or no plural: collard greens are no green onions.
    **{
        word: word
        for word in "as bias bitters brussels calvados canvas christmas fries gas greens grits has "
        "herbes hines hors innards jones kansas madras molasses nachos reynolds sassafras schnapps "
        "smokies species swiss texas thomas trans tres was watkins williams yes".split()
    },
    # Wrong in inflect.
    "blintzes": "blintz", "brioches": "brioche", "chilies": "chili", "chillies": "chili",
    "cuties": "cutie", "joes": "joe", "leches": "leche", "peches": "peche", "smoothies": "smoothie",
    "twinkies": "twinkie",
    # Plurals that do not end like one, or like what is none.
    "cacti": "cactus", "chois": "choy", "feet": "foot", "fungi": "fungus", "geese": "goose",
    "menus": "menu", "octopi": "octopus", "tofus": "tofu",
    # One thing in several spellings: who may not eat one may not eat the other.
    **{
        spelling: word
        for word, spellings in {
            "barbecue": "barbeque", "bok": "pak", "brussels": "brussel", "bulgur": "bulghur",
            "cardamom": "cardamon", "chili": "chile chille chilli", "choy": "choi",
            "doughnut": "donut", "fettuccine": "fettucine fettuccini fettucini",
            "gelatin": "gelatine", "hummus": "hommus houmous", "ketchup": "catsup",
            "lasagna": "lasagne", "licorice": "liquorice", "linguine": "linguini",
            "lychee": "litchi", "matzo": "matza matzah matzoh", "mozzarella": "mozarella",
            "omelette": "omelet", "pepperoncini": "peperoncini", "phyllo": "fillo filo",
            "pimento": "pimiento", "pita": "pitta", "portobello": "portabella portabello",
            "shiitake": "shitake", "soy": "soya", "syrup": "sirup", "tahini": "tahina",
            "turmeric": "tumeric", "whiskey": "whisky", "worcestershire": "worchestershire",
            "yogurt": "yoghourt yoghurt",
        }.items()
        for spelling in spellings.split()
    },
}  # fmt: skip

_LOADING = threading.Lock()


def fold(text: str) -> str:
    """Return text in lower case, no accents or ligatures: "creme fraiche" of "CRÈME FRAÎCHE"."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", text).casefold().translate(_LETTERS)
    return unicodedata.normalize("NFKC", _ACCENTS.sub("", unicodedata.normalize("NFKD", plain)))


def folded_label(text: str) -> str:
    """Return a name, such as a category's, with case, accents and the width of spaces folded."""
    return " ".join(fold(text).split())


def folded_words(text: str) -> list[str]:
    """Return the words of a text, folded, without a possessive s ("baker's", "bakers'": "baker").

    Hyphens part words, and so do other apostrophes: "poire d'Anjou" holds "anjou".
    A sign between spaces is its word: "half & half".
    """
    folded: list[str] = []
    for word in _WORD.findall(fold(text).replace(" & ", " and ")):
        parts = word.split("'")
        folded += parts[:-1] if len(parts) > 1 and parts[-1] == "s" else parts
    return folded


@lru_cache(maxsize=65_536)
def singular(word: str) -> str:
    """Return the one form of a folded word: "leaf" of "leaves" and "leaf", "chili" of "chilli"."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4 or not word.endswith("s") or not word.isascii():
        return word
    if word in _SINGULAR_IS or word.endswith(_SINGULAR_ENDINGS):
        return word
    one = str(_engine().singular_noun(word) or word)
    return _IRREGULAR.get(one, one)


@lru_cache(maxsize=65_536)
def plural(word: str) -> str:
    """Return the plural of a folded singular: what "1 cherry" may be in a list of known words."""
    if not word.isascii() or not word.isalpha():
        return word
    return str(_engine().plural_noun(word) or word)


def terms(text: str) -> list[str]:
    """Return the words of a text in order, as filters and the ingredient reader compare them."""
    return [singular(word) for word in folded_words(text)]


@lru_cache(maxsize=1)
def _engine() -> inflect.engine:
    """Import inflect without its checks of argument types, and return its engine.

    typeguard rewrites its methods at import for 1.2 s, ten times what all else of it takes, and a
    search with a filter waits for that; Python's -O leaves them out in the same way.
    """
    import typeguard

    with _LOADING:  # two threads that both put it back could leave it out for good
        decorator = typeguard.typechecked
        typeguard.typechecked = _undecorated  # type: ignore[assignment]
        try:
            import inflect
        finally:
            typeguard.typechecked = decorator
    return inflect.engine()


def _undecorated(target: Any) -> Any:
    return target
