"""Words, the vocabulary's ids, and what is read of a recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hficma.errors import ArtifactError, InputError
from hficma.recipe import Recipe
from hficma.text.vocabulary import (
    END_ID,
    FIRST_WORD_ID,
    PAD_ID,
    TextConfig,
    Tokenizer,
    Vocabulary,
)
from hficma.text.words import sentences, words

VOCABULARY = Vocabulary(("salt", "olive_oil", "mix", "eggs", "oil"), (9, 8, 7, 6, 5))


def recipe(*ingredients: str, title: str = "", instructions: tuple[str, ...] = ()) -> Recipe:
    return Recipe(id="x", title=title, ingredients=ingredients, instructions=instructions)


def test_ids_begin_after_the_reserved_two() -> None:
    """The published loaders look words up two rows off: id and row must agree here."""
    assert (PAD_ID, END_ID, FIRST_WORD_ID) == (0, 1, 2)
    assert [VOCABULARY.id_of(word) for word in VOCABULARY.words] == [2, 3, 4, 5, 6]
    assert VOCABULARY.table_rows == len(VOCABULARY) + 2
    table = np.zeros((VOCABULARY.table_rows, 1))
    table[FIRST_WORD_ID:, 0] = range(len(VOCABULARY))
    assert table[VOCABULARY.ids_of(["eggs"])[0], 0] == VOCABULARY.words.index("eggs")
    assert table[VOCABULARY.table_rows - 1, 0] == len(VOCABULARY) - 1  # the rarest has a row


def test_ingredients_keep_their_order_and_duplicates() -> None:
    """The published preprocessing puts them through a set, which loses both."""
    ids = Tokenizer(VOCABULARY, TextConfig())(recipe("3 eggs", "salt", "1 tbsp olive oil", "salt"))
    assert ids.ingredients.tolist() == [5, 2, 3, 2]


def test_unknown_ingredients_are_told() -> None:
    """A line of which no word is known is left out, and said so."""
    ids = Tokenizer(VOCABULARY, TextConfig())(recipe("salt", "1 cup xyzzy"))
    assert ids.ingredients.tolist() == [2]
    assert ids.left_out == ("1 cup xyzzy",)


def test_lines_that_were_read_are_known_by_their_place() -> None:
    """Their labels are shown beside what the model made of them."""
    lines = ("For the eggs:", "salt", "1 cup xyzzy", "3 eggs", "salt", "3 eggs")
    ids = Tokenizer(VOCABULARY, TextConfig(max_ingredients=3))(recipe(*lines))
    assert ids.lines == (1, 3, 4)
    assert ids.left_out == ("1 cup xyzzy", "3 eggs")  # a section's head asked for nothing


def test_remembered_lines_are_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven lines of ten come again; one that was forgotten must not lose its id."""
    monkeypatch.setattr("hficma.text.vocabulary.REMEMBERED_LINES", 2)
    tokenizer = Tokenizer(VOCABULARY, TextConfig())
    lines = ["3 eggs", "xyzzy", "salt", "3 eggs", "salt " + "x" * 300] * 3
    expected = [Tokenizer(VOCABULARY, TextConfig()).ingredient_id(line) for line in lines]
    assert [tokenizer.ingredient_id(line) for line in lines] == expected
    assert expected[:3] == [5, None, 2]


def test_a_model_without_a_reader_keeps_the_first() -> None:
    """Read by other rules than it was trained with, its recipes would score otherwise."""
    old = TextConfig().to_json()
    del old["reader"]
    config = TextConfig.from_json(old)
    assert config.reader == 1
    assert config.to_json() == old  # or its model_id would change
    assert Tokenizer(VOCABULARY, config)(recipe("For the eggs:")).ingredients.tolist() == [5]
    assert TextConfig.from_json(TextConfig().to_json()) == TextConfig()
    assert TextConfig().to_json()["reader"] == 2
    with pytest.raises(ValueError, match="reader is"):
        TextConfig.from_json(old | {"reader": 3})


def test_nothing_known_reads_the_end_marker() -> None:
    """A recipe must have a token; a query of which nothing is known is an error."""
    tokenizer = Tokenizer(VOCABULARY, TextConfig())
    assert tokenizer(recipe("xyzzy")).ingredients.tolist() == [END_ID]
    with pytest.raises(InputError, match="no word of this recipe is known"):
        tokenizer.query(recipe("xyzzy"))
    assert tokenizer.query(recipe("xyzzy", title="Mix")).sentences


@pytest.mark.parametrize("end_marker", [False, True])
def test_limits(end_marker: bool) -> None:
    """The first 20 count; the end marker takes one of the slots."""
    config = TextConfig(end_marker=end_marker)
    long = "mix " * 50
    ids = Tokenizer(VOCABULARY, config)(recipe(*["salt"] * 30, instructions=(long,) * 40))
    assert len(ids.ingredients) == 20
    assert bool(ids.ingredients[-1] == END_ID) is end_marker
    assert len(ids.sentences) == 20
    assert {len(sentence) for sentence in ids.sentences} == {30}


def test_title_is_the_first_instruction_where_asked_for() -> None:
    """HF-ICMA ignores the title; the small preset reads it."""
    example = recipe("salt", title="Eggs", instructions=("Mix. Salt",))
    read = Tokenizer(VOCABULARY, TextConfig(title="instruction"))(example).sentences
    assert [sentence.tolist() for sentence in read] == [[5], [4], [2]]
    unread = Tokenizer(VOCABULARY, TextConfig(title="none"))(example).sentences
    assert [sentence.tolist() for sentence in unread] == [[4], [2]]


@pytest.mark.parametrize("limit", [20, 3, 2])
def test_a_balanced_title_weighs_as_much_as_the_instructions(limit: int) -> None:
    """Once among many instructions, a title hardly moves their mean."""
    example = recipe("salt", title="Eggs", instructions=("Mix. Salt",))
    config = TextConfig(title="balanced", max_sentences=limit)
    read = Tokenizer(VOCABULARY, config)(example)
    rows = [sentence.tolist() for sentence in read.sentences]
    if limit == 20:
        assert (rows, read.titles) == ([[5], [5], [4], [2]], 2)
    else:
        assert (rows, read.titles) == ([[5], [4], [2]][:limit], 1)
    untitled = Tokenizer(VOCABULARY, config)(recipe("salt", instructions=("Mix.",)))
    assert untitled.titles == 0
    assert [sentence.tolist() for sentence in untitled.sentences] == [[4]]


def test_words_of_any_script() -> None:
    """Another script is words too, and full-width digits are digits."""
    assert words("Crème brûlée, 2 cups 砂糖") == ["crème", "brûlée", "2", "cups", "砂糖"]
    assert words("борщ 2л") == ["борщ", "2", "л"]
    assert words("don't") == ["don't"]


def test_sentence_ends() -> None:
    """One step of a recipe is often several sentences."""
    assert sentences(["Mix. Bake!  Serve", "Eat\nnow"]) == ["Mix.", "Bake!", "Serve", "Eat", "now"]
    assert sentences(["Add 1.5 cups."]) == ["Add 1.5 cups."]
    assert sentences(["", "  "]) == []


def test_vocabulary_files(tmp_path: Path) -> None:
    """Saved and read again it is the same; a damaged one is named."""
    VOCABULARY.save(tmp_path / "v.json")
    assert Vocabulary.load(tmp_path / "v.json") == VOCABULARY
    (tmp_path / "v.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"v\.json"):
        Vocabulary.load(tmp_path / "v.json")
    with pytest.raises(ValueError, match="once"):
        Vocabulary(("a", "a"), (1, 1))


@given(st.text(max_size=80))
def test_any_text_gives_lower_case_words(text: str) -> None:
    """No word may hold a space or a line break: the corpus is one sentence a line."""
    assert all(word and not any(c.isspace() for c in word) for word in words(text))


def test_whole_fields_are_read_in_their_places() -> None:
    """A model knows a field by its place: the ingredients' must be there in every recipe, last."""
    vocabulary = Vocabulary(("flour", "egg", "mix", "cups"), (4, 3, 2, 1))
    tokenizer = Tokenizer(vocabulary, TextConfig(unit="field", max_words=2))
    recipe = Recipe(
        id="1", title="Egg", ingredients=["2 cups flour", "1 egg"],
        instructions=["Mix flour.", "Mix egg."],
    )  # fmt: skip
    ids = tokenizer(recipe)
    assert ids.titles == 1
    assert [one.tolist() for one in ids.sentences] == [[3], [4, 2, 4, 3], [5, 2, 3]]
    unknown = tokenizer(Recipe(id="2", title="", ingredients=["1 quince"], instructions=[]))
    assert unknown.titles == 0
    assert [one.tolist() for one in unknown.sentences] == [[END_ID]]
