"""Recipes without photos: which a run may read, and which stand for a pair's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hficma.data import open_dataset
from hficma.data.dataset import positions
from hficma.progress import Progress
from hficma.recipe import Recipe
from hficma.training.data.neighbours import Neighbours, find_neighbours, title_vectors
from hficma.training.data.other_recipes import OtherRecipes
from tests.training.data.test_recipe_batches import model
from tests.training.text.test_text_vectors import Heard

DATASET = open_dataset("sample:100")


def others(folder: Path, recipes: list[Recipe]) -> OtherRecipes:
    path = folder / "others.jsonl"
    path.write_text("\n".join(json.dumps(recipe.to_json()) for recipe in recipes))
    return OtherRecipes(path, DATASET, folder)


def test_nothing_of_a_test_pair_is_read(tmp_path: Path) -> None:
    """What a run is measured with must be new to it, and so must its dish by another's words."""
    tests = positions(DATASET, ("test",))
    assert len(tests)
    test = DATASET.recipe(int(tests[0]))
    trained = DATASET.recipe(int(positions(DATASET, ("train",))[0]))
    texts = ("1 leek", "2 eggs")
    recipes = [
        test,
        replace(test, id="same-text", title="Quite another title"),
        Recipe(id="same-title", title=test.title.upper() + "S", ingredients=texts),
        replace(trained, id="of-a-pair", title="Leek pie"),
        Recipe(id="other", title=f"{trained.title}", ingredients=texts),
    ]
    assert [recipe.id for recipe in others(tmp_path, recipes)] == ["other"]


def test_a_digest_follows_from_what_is_left_out(tmp_path: Path) -> None:
    """Cached by the file alone, a head that read one's test recipes would serve another split."""
    read = others(tmp_path, [Recipe(id="a", title="Leek pie")])
    other = OtherRecipes(read.path, open_dataset("sample:100:3"), tmp_path)
    assert read.digest == OtherRecipes(read.path, DATASET, tmp_path).digest
    assert read.digest != other.digest


def test_titles_near_a_pairs_are_its_neighbours_and_others_are_not(tmp_path: Path) -> None:
    """A neighbour of another dish would teach that the photo shows it."""
    network = model(unit="field")
    titles = ["Pea soup", "Pea soup, salt", "Boil", "Unheard of"]
    others_read = others(
        tmp_path, [Recipe(id=title, title=title, ingredients=("1 pea",)) for title in titles]
    )
    pairs = [Recipe(id="a", title="Soup of peas"), Recipe(id="b", title=""), Recipe(id="c")]
    neighbours = find_neighbours(network, pairs, others_read, cache=tmp_path, progress=Progress())
    generator = np.random.default_rng(0)
    drawn = neighbours.draw(np.zeros(500, dtype=np.int64), 1.0, generator)
    ids = {neighbours.recipes[place].id for place in drawn}
    assert "Pea soup" in ids
    assert "Unheard of" not in ids
    assert "Boil" not in ids
    soup, leek = title_vectors(network, ["Soup", "Leek soup"])
    assert float(soup @ soup) == pytest.approx(1)
    assert float(soup @ leek) == pytest.approx(0.5**0.5), "leek, which is unknown, is a word too"
    without = neighbours.draw(np.array([1, 2]), 1.0, generator)
    assert without.tolist() == [-1, -1], "no title is near to none"


def test_neighbours_are_found_once_for_all_trainings_alike(tmp_path: Path) -> None:
    """Members and folds would each encode all titles; of another file they must be others."""
    soup = Recipe(id="", ingredients=("1 pea", "salt"), instructions=("Boil. Stir.",), url="x")
    recipes = [replace(soup, id=f"{n}", title=f"Pea soup {n}") for n in range(12)]
    pairs = [Recipe(id="a", title="Soup of peas"), Recipe(id="b", title="Salt water")]
    first_notes, notes = Heard(), Heard()
    read = others(tmp_path, recipes)

    def neighbours(pairs: list[Recipe], read: OtherRecipes, heard: Heard) -> Neighbours:
        network = model(unit="field")  # a new one each time, of the same weights
        return find_neighbours(network, pairs, read, cache=tmp_path, progress=heard)

    first, again = neighbours(pairs, read, first_notes), neighbours(pairs, read, notes)
    assert first_notes.stages
    assert not notes.stages
    assert first_notes.notes == notes.notes
    assert first.recipes == again.recipes
    assert set(first.recipes) <= set(recipes)
    assert np.array_equal(first.rows, again.rows)
    assert np.array_equal(first.weights, again.weights)
    neighbours(pairs[:1], read, notes)
    neighbours(pairs, others(tmp_path, recipes[:11]), notes)
    assert len(notes.stages) == 2


@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
def test_neighbours_are_drawn_as_often_as_said_and_by_their_weights(chance: float) -> None:
    """Always drawn, a pair's own recipe is never seen; evenly, far titles as often as near."""
    recipes = tuple(Recipe(id=str(number)) for number in range(3))
    neighbours = Neighbours(
        recipes=recipes, rows=np.array([[0, 2, 1], [1, 0, 9]]),
        weights=np.array([[0.3, 0.1, 0.0], [0.0, 0.0, 0.0]]),
    )  # fmt: skip
    rows = np.tile([0, 1], 5000)
    drawn = neighbours.draw(rows, chance, np.random.default_rng(0))
    assert (drawn[1::2] == -1).all()
    first = drawn[::2]
    assert (first >= 0).mean() == pytest.approx(chance, abs=0.03)
    assert not (first == 1).any()
    if chance:
        assert (first[first >= 0] == 0).mean() == pytest.approx(0.75, abs=0.03)
