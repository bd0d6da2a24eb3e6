"""What a search gives back, as a program, a terminal and a script read it."""

from __future__ import annotations

import json

from hficma.engine import Hit
from hficma.recipe import Recipe

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
