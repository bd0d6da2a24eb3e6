"""What a search gives back, as a program, a terminal and a script read it."""

from __future__ import annotations

import io
import json
from dataclasses import replace

from rich.cells import cell_len
from rich.table import Table

from hficma.engine import Answer, Hit
from hficma.engine.results import ErrorBound, add_hits
from hficma.recipe import Recipe
from hficma.terminal import TextConsole

RECIPE = Recipe(
    id="r1", title="Soup", ingredients=("salt", "leek"), instructions=("Boil.",), image="1.jpg",
    partition="test", url="https://example.org/soup", category="soups",
)  # fmt: skip


def hit(rank: int = 1, recipe: Recipe = RECIPE) -> Hit:
    return Hit(rank=rank, recipe=recipe, score=0.75, global_score=0.5, local_score=0.8125)


def test_a_hit_holds_its_recipe() -> None:
    """It was copied field by field, and put together again by whoever needed a recipe."""
    one = hit()
    assert one.recipe is RECIPE
    for name in ("id", "title", "ingredients", "instructions", "image", "partition", "url",
                 "category"):  # fmt: skip
        assert getattr(one, name) == getattr(RECIPE, name)


def test_the_json_of_a_hit_is_what_scripts_read() -> None:
    """Byte for byte, the order of the fields included."""
    assert json.dumps(hit().to_json()) == (
        '{"rank": 1, "id": "r1", "title": "Soup", "score": 0.75, "global_score": 0.5, '
        '"local_score": 0.8125, "ingredients": ["salt", "leek"], "instructions": ["Boil."], '
        '"url": "https://example.org/soup", "image": "1.jpg", "category": "soups", '
        '"partition": "test"}'
    )


def answer(*hits: Hit, notes: tuple[str, ...] = ()) -> Answer:
    return Answer(
        hits=hits, certified=1, scored=200, searched=10_000, milliseconds={"total": 12.3},
        notes=notes,
    )  # fmt: skip


def test_the_parts_of_a_score_go_before_titles_are_cut() -> None:
    """At 80 columns a title of twenty characters tells no two tarts apart."""
    title = "Rustic red currant and rhubarb"
    for width, parts in ((80, False), (120, True)):
        console = TextConsole(file=io.StringIO(), width=width)
        table = Table(box=None, expand=True)
        add_hits(table, answer(hit(1, replace(RECIPE, title=title))), width=width)
        with console.capture() as capture:
            console.print(table)
        text = capture.get()
        assert title in text
        assert ("global" in text) == parts
        assert max(map(len, text.splitlines())) <= width


def test_answers_of_photos_name_their_files() -> None:
    """Whoever asks for photos wants to open one."""
    photos = replace(answer(hit(1, replace(RECIPE, image="photos/12.jpg"))), of="images")
    assert "photos/12.jpg" in str(photos)
    assert "leek" not in str(photos)


def test_an_answer_names_what_its_proof_allows_for() -> None:
    """A certificate whose ε nobody can read is a promise; without a local part there is none."""
    bounds = (
        ErrorBound(precision="fp32", epsilon=1e-5, pairs=1_100_000),
        ErrorBound(precision="bf16", epsilon=3e-3, pairs=1_200_000),
    )
    screened = replace(answer(hit()), error_bounds=bounds)
    assert "error_bounds" not in answer(hit()).to_json()
    assert screened.to_json()["error_bounds"] == [
        {"precision": "fp32", "epsilon": 1e-5, "pairs": 1_100_000, "known_by": "measurement"},
        {"precision": "bf16", "epsilon": 3e-3, "pairs": 1_200_000, "known_by": "measurement"},
    ]
    assert str(screened) == str(answer(hit()))  # what is read by people stays short


def test_an_answer_prints_as_a_table() -> None:
    """`print(answer)` showed a page of dataclasses."""
    # How many spaces stand between the columns is Rich's affair, and changes with its version.
    assert [" ".join(line.split()) for line in str(answer(hit(1), hit(2))).splitlines()] == [
        "# title S ingredients",
        "1 Soup 0.750 salt, leek",
        "2 Soup 0.750 salt, leek",
        "200 of 10,000 items scored; first 1 of 2 ranks proved the same as scoring all",
        "10,000; 12 ms",
    ]
    nothing = str(answer(notes=("no recipe of the index has 'unicorn'",)))
    assert "title" not in nothing
    assert nothing.splitlines()[-1] == "no recipe of the index has 'unicorn'"


def test_the_table_fits_80_columns_and_holds_no_control_character() -> None:
    """A title is foreign text: of any length, of wide characters, or a terminal's commands."""
    for title in ("soup " * 100, "\u6c64" * 200, "clear\x1b[2J\nall [red]of it[/red]"):
        recipe = Recipe(id="x", title=title, ingredients=(title,) * 5)
        text = str(answer(hit(1000, recipe), notes=(title,)))
        assert all(cell_len(line) <= 80 for line in text.splitlines())
        assert text.replace("\n", "").isprintable()
        assert "1000" in text
        assert "0.750" in text


def test_a_notebook_shows_recipes_as_text() -> None:
    """A title with a script in it would run in whoever opens the notebook."""
    recipe = Recipe(id="x", title="<script>alert(1)</script>", ingredients=('"><img src=x>',))
    page = answer(hit(1, recipe), notes=("<b>",))._repr_html_()
    assert "<script>" not in page
    assert "<img" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("<tr>") == 2
