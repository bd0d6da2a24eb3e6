"""Filters find what a cook means by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hficma.engine.filters import Filter
from hficma.engine.records import FILE, Records, RecordWriter, singular
from hficma.errors import ArtifactError, InputError
from hficma.recipe import Recipe

RECIPES = [
    Recipe(id="a", ingredients=("2 tbsp Peanut Butter", "1 egg"), category="snack"),
    Recipe(id="b", ingredients=("salted peanuts", "oil"), partition="val"),
    Recipe(id="c", ingredients=("butter, unsalted", "eggplant"), category="main"),
    Recipe(id="d", ingredients=("3 eggs", "blueberries"), category="snack", partition="test"),
    Recipe(id="e", title="Crème", ingredients=("crème fraîche", "яблоко")),
]


@pytest.fixture
def records(tmp_path: Path) -> Records:
    writer = RecordWriter(tmp_path / FILE)
    writer.append(RECIPES[:2])
    writer.append(RECIPES[2:])
    writer.close()
    return Records(tmp_path / FILE)


@pytest.mark.parametrize(
    ("wanted", "passing"),
    [
        (Filter(), "abcde"),
        (Filter(without=("peanut",)), "cde"),
        (Filter(without=("PEANUTS",)), "cde"),
        (Filter(having=("peanut butter",)), "a"),
        (Filter(having=("butter",)), "ac"),
        (Filter(having=("egg",)), "ad"),
        (Filter(having=("egg",), without=("blueberry",)), "a"),
        (Filter(having=("butter peanut",)), ""),
        (Filter(having=("яблоко",)), "e"),
        (Filter(categories=("snack",)), "ad"),
        (Filter(without_categories=("snack",)), "bce"),
        (Filter(partitions=("train",)), "ace"),
        (Filter(partitions=("val", "test")), "bd"),
        (Filter(without_partitions=("train",)), "bd"),
        (Filter(ids=("a", "zzz", "c")), "ac"),
        (Filter(without_ids=("a",)), "bcde"),
        (Filter(having=("unicorn",)), ""),
    ],
)
def test_filters(records: Records, wanted: Filter, passing: str) -> None:
    """Someone may be allergic."""
    mask = wanted.allowed(records, len(RECIPES))
    assert "".join(RECIPES[i].id for i in np.flatnonzero(mask)) == passing


def test_a_filter_without_a_word_is_refused() -> None:
    """It would silently forbid nothing."""
    with pytest.raises(InputError, match="no word"):
        Filter(without=("!!",))


def test_records_come_back_as_written(records: Records) -> None:
    """Answers show them."""
    assert records.recipes([4, 1]) == {4: RECIPES[4], 1: RECIPES[1]}
    assert records.ids([0]) == {0: "a"}


@pytest.mark.parametrize(
    ("word", "one"),
    [("eggs", "egg"), ("berries", "berry"), ("tomatoes", "tomato"), ("swiss", "swiss"),
     ("peaches", "peach"), ("asparagus", "asparagus"), ("gas", "gas"), ("radishes", "radish")],
)  # fmt: skip
def test_singular(word: str, one: str) -> None:
    """A filter for one egg must find eggs."""
    assert singular(word) == one


def test_damaged_records_are_named(tmp_path: Path) -> None:
    """SQLite's own error names no file."""
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(ArtifactError, match="damaged"):
        Records(tmp_path / FILE).ids([0])
    with pytest.raises(ArtifactError, match="missing"):
        Records(tmp_path / "none")
