"""Recipes as people write them: what is taken, what is refused, and how it is said."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hficma.errors import InputError
from hficma.recipe import MAX_INGREDIENTS, MAX_LINE_BYTES, Recipe, read_jsonl, read_recipe

GOOD: dict[str, Any] = {"id": "a", "title": "Pie", "ingredients": ["1 apple"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ingredients": []}, "no ingredients"),
        ({"ingredients": None}, "no ingredients"),
        ({"ingredients": ["", "  "]}, "no ingredients"),
        ({"ingredients": ["salt"] * (MAX_INGREDIENTS + 1)}, "201 ingredients, at most 200"),
        ({"ingredients": ["salt", 2]}, "ingredients 2 must be text, not a number"),
        ({"ingredients": {"salt": 1}}, "ingredients must be a list of texts, not an object"),
        ({"title": 7}, "title must be text, not a number"),
        ({"instructions": [["Mix."]]}, "instructions 1 must be text, not a list"),
        ({"id": ""}, "id must be a non-empty string"),
        ({"id": True}, "id must be a non-empty string, not true or false"),
        ({"partition": "training"}, "must be one of train, val, test"),
        ({"image": 3}, "image must be text"),
    ],
)
def test_bad_records(change: dict[str, Any], said: str) -> None:
    """Each mistake is named with its field, in one line."""
    with pytest.raises(InputError, match=r"recipes\.jsonl line 7") as caught:
        Recipe.parse({**GOOD, **change}, where="recipes.jsonl line 7")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("record", [None, 3, "salt", [], [GOOD]])
def test_records_that_are_no_objects(record: object) -> None:
    """A list of recipes is not a recipe."""
    with pytest.raises(InputError, match="must be a JSON object"):
        Recipe.parse(record, where="x")


def test_what_is_let_pass() -> None:
    """Numbers as ids, one text of several lines, spaces, fields that nobody knows."""
    record = {"id": 12, "ingredients": " salt \n\n pepper ", "licence": "MIT", "title": None}
    recipe = Recipe.parse(record, where="x")
    assert (recipe.id, recipe.ingredients, recipe.title) == ("12", ("salt", "pepper"), "")


def test_an_id_of_content_names_a_recipe_alike_everywhere(tmp_path: Path) -> None:
    """Line numbers named the first recipes of two files alike: the second file's were left out
    of an index as being in it already."""
    soup = {"title": "Soup", "ingredients": ["water"]}
    salad = {"title": "Salad", "ingredients": ["leaves"], "id": None}
    for name, records in (("a", [soup, salad]), ("b", [salad, {**soup, "title": " Soup "}])):
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / name).write_text(lines, encoding="utf-8")
    first, second = ([r.id for r in read_jsonl(tmp_path / name)] for name in "ab")
    assert first == second[::-1]
    assert first[0] != first[1]
    assert all(len(identity) == 16 for identity in first)


@given(st.dictionaries(st.sampled_from(("title", "url", "category", "image")), st.text(max_size=3)))
def test_what_differs_has_another_id_of_content(change: dict[str, str]) -> None:
    """Two recipes of one id could not both be in an index."""
    plain = Recipe.parse({"ingredients": ["salt"]}, where="x")
    changed = Recipe.parse({"ingredients": ["salt"], **change}, where="x")
    assert (changed.id == plain.id) == (replace(changed, id="") == replace(plain, id=""))
    assert Recipe.parse({**plain.to_json(), "id": None}, where="x") == plain


@given(
    st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=5),
    st.lists(st.text(min_size=1).filter(str.strip), max_size=3),
)
def test_written_and_read_it_is_the_same(ingredients: list[str], steps: list[str]) -> None:
    """Any script and any sign must survive being stored."""
    strip = tuple(text.strip() for text in ingredients)
    recipe = Recipe(id="x", ingredients=strip, instructions=tuple(s.strip() for s in steps))
    assert Recipe.parse(json.loads(json.dumps(recipe.to_json())), where="x") == recipe


@pytest.mark.parametrize("content", [b"", b"  \n", b"{", b"\xff\xfe", b"[" * 100_000, b"NaN"])
def test_bad_files(tmp_path: Path, content: bytes) -> None:
    """A query file that is no recipe is named, whatever it holds."""
    path = tmp_path / "query.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"query\.json"):
        read_recipe(path)


def test_missing_files_and_directories(tmp_path: Path) -> None:
    """Both are said in one line."""
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(InputError):
            read_recipe(path)
        with pytest.raises(InputError):
            list(read_jsonl(path))


def test_bad_lines_are_left_out_and_named(tmp_path: Path) -> None:
    """One bad line in thousands: its number is told, the others go in."""
    lines = [
        json.dumps(GOOD),
        "{",
        "",
        "[1]",
        '{"id": "b"}',
        " \t",
        json.dumps({**GOOD, "id": 2}),
    ]
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8", newline="\n")
    notes: list[str] = []
    assert [recipe.id for recipe in read_jsonl(path, on_bad=notes.append)] == ["a", "2"]
    assert [note.split(":")[0].rsplit(" ", 1)[1] for note in notes] == ["2", "4", "5"]
    with pytest.raises(InputError, match="line 2"):
        list(read_jsonl(path, strict=True))


def test_a_line_without_end(tmp_path: Path) -> None:
    """A file that is one line of gigabytes must not be read into memory."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"x" * (MAX_LINE_BYTES + 10) + b"\n" + json.dumps(GOOD).encode())
    notes: list[str] = []
    assert len(list(read_jsonl(path, on_bad=notes.append))) == 1
    assert "longer than" in notes[0]


def test_compressed_files(tmp_path: Path) -> None:
    """`.gz` is read as it stands; a truncated one is named."""
    path = tmp_path / "r.jsonl.gz"
    content = gzip.compress((json.dumps(GOOD) + "\n").encode() * 50)
    path.write_bytes(content)
    assert len(list(read_jsonl(path))) == 50
    for broken in (content[:-20], b"no gzip"):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"r\.jsonl\.gz"):
            list(read_jsonl(path))


def test_a_document_over_many_lines_is_said(tmp_path: Path) -> None:
    """Every one of its lines was called invalid JSON, which did not say what to do."""
    (tmp_path / "r.jsonl").write_text(json.dumps(GOOD, indent=1))
    bad: list[str] = []
    assert list(read_jsonl(tmp_path / "r.jsonl", on_bad=bad.append)) == []
    assert "name it .json" in bad[0]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("1 leek, 2 eggs", ["1 leek", "2 eggs"]),
        ("leek, eggs", ["leek", "eggs"]),
        ("1 leek, chopped", ["1 leek, chopped"]),
        ("1 leek,2 eggs", ["1 leek", "2 eggs"]),
        ("1,5 kg flour, 2 eggs", ["1,5 kg flour", "2 eggs"]),
        ("1 can (400 g, drained) beans, ½ leek", ["1 can (400 g, drained) beans", "½ leek"]),
        ("1 leek; 2 eggs", ["1 leek", "2 eggs"]),
        ("['1 leek', '2 eggs, beaten']", ["1 leek", "2 eggs, beaten"]),
        ('c("1 leek", "2 eggs")', ["1 leek", "2 eggs"]),
        ('["1 leek", "2 eggs"]', ["1 leek", "2 eggs"]),
        ("[not a list]", ["[not a list]"]),
    ],
)
@pytest.mark.parametrize("key", ["ingredients", "recipeIngredient"])
def test_a_list_in_one_text(key: str, text: str, lines: list[str]) -> None:
    """A spreadsheet's list as a text was one ingredient, of which the first was read."""
    recipe = Recipe.parse({"title": "Pie", key: text}, where="x")
    assert list(recipe.ingredients) == lines
    # In a list, a line with commas is one ingredient.
    assert Recipe.parse({key: ["1 leek, 2 eggs", "salt"]}, where="x").ingredients[1] == "salt"


def test_an_ingredient_as_amount_and_item() -> None:
    """The amount beside an `item` was lost."""
    record = {"ingredients": [{"qty": 2, "item": "eggs"}, {"quantity": "1", "name": "leek"}]}
    assert Recipe.parse(record, where="x").ingredients == ("2 eggs", "1 leek")
