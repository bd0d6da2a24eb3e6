"""Where dish classes come from."""

from __future__ import annotations

import numpy as np

from hficma.recipe import Recipe
from hficma.training.data.dish_classes import dish_classes


def dishes(titles: list[str], categories: list[str | None]) -> list[Recipe]:
    return [
        Recipe(id=str(number), title=title, category=category)
        for number, (title, category) in enumerate(zip(titles, categories, strict=True))
    ]


TITLES = ["Tomato soup", "Quick tomato soup", "Apple pie", "Best apple pie", "Toast"]


def test_categories_are_the_classes() -> None:
    """A class that one training item has can make no pair, so it is none."""
    recipes = dishes(TITLES, ["soup", "soup", "pie", "pie", "bread"])
    assert dish_classes(recipes, np.arange(5)).tolist() == [2, 2, 1, 1, 0]


def test_titles_stand_in_where_no_recipe_has_a_category() -> None:
    """Real collections have none; the semantic losses must still find dishes of a kind."""
    classes = dish_classes(dishes(TITLES, [None] * 5), np.arange(5))
    assert classes[0] == classes[1] != 0
    assert classes[2] == classes[3] not in (0, classes[0])
    assert classes[4] == 0
