"""Words that a cook takes for one are one, and words of other things stay apart."""

from __future__ import annotations

import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hficma.text.inflection import fold, folded_label, folded_words, singular, terms


@pytest.mark.parametrize(
    "forms",
    [
        "leaf leaves Leaf", "loaf loaves", "half halves", "knife knives", "calf calves",
        "kiwi kiwis", "chili chilis chilies chilli chillis chillies chile chiles CHILES",
        "cookie cookies", "brownie brownies", "veggie veggies", "quiche quiches",
        "potato potatoes potatos", "tomato tomatoes", "mango mangoes mangos", "avocado avocadoes",
        "anchovy anchovies", "cranberry cranberries", "radish radishes", "peach peaches",
        "pea peas", "oat oats", "lentil lentils", "olive olives", "clove cloves", "chive chives",
        "cheese cheeses", "box boxes", "octopus octopuses octopi", "cactus cacti cactuses",
        "zucchini zucchinis", "ravioli raviolis", "goose geese", "egg eggs Egg EGGS",
        "jalapeno jalapeños jalapen\u0303o JALAPEÑOS jala\u00adpeños jalapeño's", "acai açaí",
        "oeuf œuf Œufs", "griess grieß", "baker baker's bakers' baker’s bakers", "yogurt yoghurt",
        "brussels brussel Brussels", "filet ﬁlets",
    ],
)  # fmt: skip
def test_forms_of_one_word_meet(forms: str) -> None:
    """`--without` one of them must leave none of the others."""
    assert {one for form in forms.split() for one in terms(form)} == {fold(forms.split()[0])}


@pytest.mark.parametrize(
    "word",
    "molasses hummus couscous asparagus swiss citrus bass cress gas greens grits gnocchi "
    "cassis coulis haggis anis ramen roma quinoa octopus watercress lemongrass bitters beaujolais "
    "porcini pepperoni schnapps fries series texas".split(),
)
def test_words_that_are_no_plurals_stay(word: str) -> None:
    """Cut, they would be no word, and greens would be found in "green onions"."""
    assert singular(word) == word


@pytest.mark.parametrize(
    ("one", "other"),
    [("nut", "nutmeg"), ("egg", "eggplant"), ("pea", "peanut"), ("green", "greens"),
     ("fry", "fries"), ("bean", "beans' sprout"), ("chili", "chilled")],
)  # fmt: skip
def test_other_things_stay_apart(one: str, other: str) -> None:
    """A filter must not take away what lacks the word."""
    assert terms(one) != terms(other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sugar-free, half-and-half", "sugar free half and half"),
        ("200 ml CRÈME  FRAÎCHE (d’Isigny)", "200 ml creme fraiche d isigny"),
        ("M&M's, 1/2 cup", "m m 1/2 cup"),
        ("2eggs", "2 egg"),
        ("हल्दी", "हल्दी"),
        ("яблоки Ёж", "яблоки еж"),
    ],
)
def test_words_of_a_line(text: str, expected: str) -> None:
    """Each stands for a rule of what is a word."""
    assert " ".join(terms(text)) == expected


def test_scripts_without_spaces_match_parts() -> None:
    """ "溶き卵" holds an egg; as one word a filter for 卵 would let it pass."""
    assert folded_words("溶き卵2個") == ["溶", "き", "卵", "2", "個"]


def test_labels_ignore_case_accents_and_spaces() -> None:
    """A category is written by hand, each time a little otherwise."""
    assert folded_label(" Plat  Préféré ") == folded_label("plat prefere")


@given(st.text(max_size=40))
def test_folding_is_done_once(text: str) -> None:
    """A word that an index keeps folded must be what folding it again gives."""
    assert fold(fold(text)) == fold(text)
    for word in terms(text):
        assert terms(word) == [word]


@given(st.text(st.characters(categories=["Ll", "Lu"], max_codepoint=0x24F), min_size=1, max_size=8))
def test_composed_and_decomposed_are_one(text: str) -> None:
    """Pages and file systems write é in two ways that look the same."""
    forms = (text, unicodedata.normalize("NFD", text), unicodedata.normalize("NFC", text))
    assert len({fold(form) for form in forms}) == 1


def test_the_dictionary_is_loaded_for_plurals_only() -> None:
    """It takes a tenth of a second: a search that asks for none of it must not wait."""
    code = (
        "import sys, hficma.text.inflection as i; i.terms('egg');"
        "assert 'inflect' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
