"""Word vectors from recipes: names beside words, meaning, repetition."""

from __future__ import annotations

import numpy as np
import pytest

from hficma.errors import InputError
from hficma.recipe import Recipe
from hficma.training.text.word2vec import join_names, train_word_vectors

SWEET = (("sugar", "flour", "cream cheese"), "Whisk the sugar into the cream cheese and bake.")
SAVOURY = (("garlic", "olive oil", "onions"), "Fry the garlic in olive oil with onions.")


@pytest.fixture(scope="module")
def recipes() -> list[Recipe]:
    return [
        Recipe(id=str(n), title=f"Dish {n}", ingredients=ingredients, instructions=(text,) * 3)
        for n in range(120)
        for ingredients, text in [SWEET if n % 4 < 2 else SAVOURY]
    ]


def test_names_and_plain_words_have_vectors(recipes: list[Recipe]) -> None:
    """Ingredients are looked up as `olive_oil`, sentences as `olive` and `oil`."""
    vectors = train_word_vectors(recipes, dim=8, epochs=1)
    for word in ("olive_oil", "cream_cheese", "olive", "oil", "garlic", "whisk"):
        assert word in vectors.vocabulary
    assert "olive_oil_onions" not in vectors.vocabulary
    counts = vectors.vocabulary.counts
    assert list(counts) == sorted(counts, reverse=True)
    assert vectors.table.shape == (len(vectors.vocabulary) + 2, 8)


def test_words_of_one_kitchen_are_near(recipes: list[Recipe]) -> None:
    """Vectors that say nothing of what goes together would be no better than random ones."""
    vectors = train_word_vectors(recipes, dim=16, epochs=40, sample=0, workers=1)

    def cosine(first: str, second: str) -> float:
        a, b = vectors[first], vectors[second]
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    assert cosine("garlic", "onions") > cosine("garlic", "sugar")
    assert cosine("sugar", "flour") > cosine("sugar", "onions")


def test_one_worker_repeats(recipes: list[Recipe]) -> None:
    """The same seed must make the same run."""
    first, second = (train_word_vectors(recipes, dim=8, epochs=2, workers=1) for _ in range(2))
    assert first.table.tobytes() == second.table.tobytes()
    other = train_word_vectors(recipes, dim=8, epochs=2, workers=1, seed=1)
    assert first.table.tobytes() != other.table.tobytes()


def test_progress_and_small_corpora(recipes: list[Recipe]) -> None:
    """A few hundred recipes must not lose every word to the published minimum of 10."""
    epochs: list[int] = []
    vectors = train_word_vectors(recipes[:20], dim=4, epochs=3, on_epoch=epochs.append)
    assert epochs == [1, 2, 3]
    assert "sugar" in vectors.vocabulary


def test_no_text() -> None:
    """Nothing to learn from is said in one line."""
    with pytest.raises(InputError, match="no recipe holds a word"):
        train_word_vectors([])


def test_longest_name_is_joined() -> None:
    """`red_bell pepper` would be no ingredient."""
    names = [("bell", "pepper"), ("red", "bell", "pepper")]
    text = "chop the red bell pepper and a bell pepper".split()
    joined = ["chop", "the", "red_bell_pepper", "and", "a", "bell_pepper"]
    assert join_names(text, names) == joined
