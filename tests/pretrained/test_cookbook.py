"""The cookbook of the package: what a person finds first, and may cook from."""

from __future__ import annotations

import re
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from hficma.recipe import MAX_INGREDIENTS, Recipe, read_jsonl
from hficma.text.inflection import singular
from hficma.text.ingredients import ingredient_name

CATEGORIES = (
    "bread", "breakfast", "cake", "cookie", "curry", "dessert", "drink", "dumpling", "fish",
    "meat", "noodles", "pasta", "pie", "poultry", "rice", "salad", "sandwich", "sauce", "snack",
    "soup", "stew", "vegetable",
)  # fmt: skip
SAFE_CELSIUS = range(24, 251)
"""From a warm place for dough to the hottest kitchen oven."""


@pytest.fixture(scope="module")
def cookbook() -> list[Recipe]:
    return list(read_jsonl(Path(str(files("hficma.pretrained") / "cookbook.jsonl")), strict=True))


def test_it_is_read_without_a_complaint(
    cookbook: list[Recipe], caplog: pytest.LogCaptureFixture
) -> None:
    """A warning or a line left out would greet everybody who asks for dinner."""
    assert len(cookbook) == 300
    assert not caplog.records
    for recipe in cookbook:
        assert Recipe.parse(recipe.to_json(), where=recipe.id) == recipe
        assert recipe.image is None
        assert recipe.url is None


def test_no_dish_stands_in_it_twice(cookbook: list[Recipe]) -> None:
    """Two of one title would fill two ranks with one answer; an id names one recipe."""
    titles = Counter(recipe.title.split(",")[0].casefold() for recipe in cookbook)
    assert titles.most_common(1)[0][1] == 1
    assert len({recipe.id for recipe in cookbook}) == len(cookbook)
    assert all(re.fullmatch(r"cookbook:[a-z0-9-]+", recipe.id) for recipe in cookbook)


def test_categories_are_few_and_known(cookbook: list[Recipe]) -> None:
    """`--category soup` finds all soups or is of no use."""
    counts = Counter(recipe.category for recipe in cookbook)
    assert sorted(filter(None, counts)) == sorted(CATEGORIES)
    assert min(counts.values()) >= 5


def test_a_recipe_can_be_cooked(cookbook: list[Recipe]) -> None:
    """Each line says how much of what, and each recipe in a few steps what to do with it."""
    for recipe in cookbook:
        assert 4 <= len(recipe.ingredients) <= min(20, MAX_INGREDIENTS), recipe.title
        assert 3 <= len(recipe.instructions) <= 8, recipe.title
        for line in recipe.ingredients:
            assert re.match(r"\d", line), f"{recipe.title}: {line}"
            assert ingredient_name(line), f"{recipe.title}: {line}"
        for step in recipe.instructions:
            assert step[0].isupper(), f"{recipe.title}: {step}"
            assert step.endswith("."), f"{recipe.title}: {step}"


def test_temperatures_are_said_in_both_scales_and_agree(cookbook: list[Recipe]) -> None:
    """An oven set to a slip of the pen burns the dish; half of the world reads °F."""
    for recipe in cookbook:
        for step in recipe.instructions:
            celsius = re.findall(r"(\d+) °C \((?:\d+ to )?(\d+) °F\)", step)
            assert len(celsius) == step.count("°C") == step.count("°F"), f"{recipe.title}: {step}"
            for low, high in celsius:
                assert int(low) in SAFE_CELSIUS, f"{recipe.title}: {step}"
                # Ovens are marked in steps of 25 °F.
                assert abs(int(low) * 9 / 5 + 32 - int(high)) <= 13, f"{recipe.title}: {step}"


def test_steps_use_what_the_list_names(cookbook: list[Recipe]) -> None:
    """An ingredient that no step takes up leaves a cook with a bowl too many.

    Steps may gather some ("the spices", "the vegetables"), so a part of them is enough; eight in
    ten of the book's lines are named again.
    """
    named = total = 0
    for recipe in cookbook:
        steps = " ".join(recipe.instructions).casefold()
        again = [
            any(singular(word)[:5] in steps for word in ingredient_name(line))
            for line in recipe.ingredients
        ]
        named, total = named + sum(again), total + len(again)
    assert named >= 0.8 * total
