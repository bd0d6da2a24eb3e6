"""Dish classes from titles, as Recipe1M's were made."""

from __future__ import annotations

from hficma.data.title_classes import TitleClassOptions, title_classes

SMALL = TitleClassOptions(min_titles=2)


def test_frequent_bigrams_that_all_partitions_share() -> None:
    """A class that test lacks cannot be measured; a rare one cannot be learned."""
    titles = ["Best Apple Pie", "Apple pie!", "apple pie II", "Fish Soup", "fish soup", "Fish soup",
              "Bean Stew", "Apple Pie", "Bean Stew"]  # fmt: skip
    parts = ["train"] * 6 + [None] + ["test", "test"]
    actual = title_classes(titles, parts, options=SMALL)
    assert actual == ["apple pie"] * 3 + [None] * 4 + ["apple pie", None]


def test_the_most_common_class_wins() -> None:
    """A title with two frequent bigrams must get the same class every time."""
    titles = ["chocolate chip cookies"] * 3 + ["chocolate chip"] * 3
    assert set(title_classes(titles, ["train"] * 6, options=SMALL)) == {"chocolate chip"}


def test_no_classes_across_small_words() -> None:
    """`soup with` or `2 eggs` is no dish."""
    titles = ["Soup with 2 eggs"] * 5
    assert title_classes(titles, [None] * 5, options=SMALL) == [None] * 5


def test_given_names_for_what_is_left() -> None:
    """Food-101's names, of any number of words, go to recipes without a class."""
    titles = ["Apple Pie"] * 3 + ["Grandma's macaroni and cheese", "Ramenya"]
    names = ["macaroni_and_cheese", "ramen", "apple_pie"]
    actual = title_classes(titles, [None] * 5, names=names, options=SMALL)
    assert actual == ["apple pie"] * 3 + ["macaroni and cheese", None]


def test_how_many() -> None:
    """Ties are cut by the words, not by the recipes' order."""
    titles = [f"{word} pie" for word in ("plum", "fig", "kiwi") for _ in range(3)]
    options = TitleClassOptions(min_titles=2, max_classes=2)
    actual = title_classes(titles, [None] * 9, options=options)
    assert set(actual) == {"fig pie", "kiwi pie", None}
    assert title_classes(titles[::-1], [None] * 9, options=options) == actual[::-1]
