"""Find the photos for a recipe that exists only in memory.

python docs/examples/02_search_a_recipe.py workspace/indexes/photos
"""

import sys

from hficma import Engine, Recipe


def main(index: str) -> None:
    """Print the photos that fit best; an index `--of images` answers recipes."""
    recipe = Recipe(
        id="mine",
        title="Tomato salad",
        ingredients=("4 tomatoes", "1 red onion", "a handful of basil", "2 tbsp olive oil"),
        instructions=("Slice the tomatoes and the onion.", "Toss with basil and oil."),
    )
    with Engine.open(index) as engine:
        answer = engine.search(recipe=recipe, k=3)
    for hit in answer.hits:
        print(hit.rank, hit.image or hit.id, hit.title, round(hit.score, 3))
    for note in answer.notes:
        print("note:", note)


if __name__ == "__main__":
    main(*sys.argv[1:])
