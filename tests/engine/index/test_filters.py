"""Filters find what a cook means by them."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hficma.engine.index.filters import Filter
from hficma.engine.index.records import FILE, Records, RecordWriter
from hficma.errors import ArtifactError, InputError
from hficma.recipe import Recipe

RECIPES = [
    Recipe(id="a", ingredients=("2 tbsp Peanut Butter", "1 egg"), category="snack"),
    Recipe(id="b", ingredients=("salted peanuts", "oil"), partition="val"),
    Recipe(id="c", ingredients=("butter, unsalted", "eggplant"), category="main"),
    Recipe(id="d", ingredients=("3 eggs", "blueberries"), category="snack", partition="test"),
    Recipe(id="e", title="Crème", ingredients=("crème fraîche", "яблоко")),
    Recipe(id="f", ingredients=("2 bay leaves", "3 Jalapeños", "nutmeg"), category="Entrée"),
    Recipe(id="g", ingredients=("1 bay leaf", "green chillies", "2 kiwis")),
    Recipe(id="h", ingredients=("collard greens", "1 loaf bread", "chocolate cookies", "walnuts")),
]


@pytest.fixture
def records(tmp_path: Path) -> Records:
    writer = RecordWriter(tmp_path / FILE)
    writer.append(RECIPES[:2])
    writer.append(RECIPES[2:])
    writer.close()
    return Records(tmp_path / FILE)


@pytest.mark.parametrize(
    ("filter_", "passing"),
    [
        (Filter(), "abcdefgh"),
        (Filter(without=("peanut",)), "cdefgh"),
        (Filter(without=("PEANUTS",)), "cdefgh"),
        (Filter(without=("pea",)), "abcdefgh"),
        (Filter(without=("nut",)), "abcdefgh"),
        (Filter(having=("bay leaf",)), "fg"),
        (Filter(without=("bay leaves",)), "abcdeh"),
        (Filter(without=("jalapeno",)), "abcdegh"),
        (Filter(without=("JALAPEN\u0303OS",)), "abcdegh"),
        (Filter(having=("chili",)), "g"),
        (Filter(having=("chiles",)), "g"),
        (Filter(having=("kiwi",)), "g"),
        (Filter(having=("loaves",)), "h"),
        (Filter(having=("cookie",)), "h"),
        (Filter(having=("greens",)), "h"),
        (Filter(having=("creme fraiche",)), "e"),
        (Filter(categories=("ENTREE",)), "f"),
        (Filter(categories=("Snack", "entrée")), "adf"),
        (Filter(having=("peanut butter",)), "a"),
        (Filter(having=("butter",)), "ac"),
        (Filter(having=("egg",)), "ad"),
        (Filter(having=("egg",), without=("blueberry",)), "a"),
        (Filter(having=("butter peanut",)), ""),
        (Filter(having=("яблоко",)), "e"),
        (Filter(categories=("snack",)), "ad"),
        (Filter(without_categories=("Snack",)), "bcefgh"),
        (Filter(partitions=("Train",)), "acefgh"),
        (Filter(partitions=("val", "test")), "bd"),
        (Filter(without_partitions=("train",)), "bd"),
        (Filter(ids=("a", "zzz", "c")), "ac"),
        (Filter(without_ids=("a",)), "bcdefgh"),
        (Filter(having=("unicorn",)), ""),
    ],
)
def test_filters(records: Records, filter_: Filter, passing: str) -> None:
    """Someone may be allergic."""
    mask = filter_.mask(records, len(RECIPES))
    assert "".join(RECIPES[i].id for i in np.flatnonzero(mask)) == passing


@pytest.mark.parametrize(
    ("query", "line", "passes"),
    [
        ("chickpea", "1 can chick peas", True),
        ("chickpeas", "chick-peas, drained", True),
        ("chick pea", "200 g chickpeas", True),
        ("corn starch", "2 tbsp cornstarch", True),
        ("bread crumbs", "breadcrumbs", True),
        ("bean sprouts", "fresh beansprouts", True),
        ("buttermilk", "1 cup butter milk", True),
        ("soya sauce", "soy sauce", True),
        ("bok choy", "2 pak choi", True),
        ("half and half", "1 cup half & half", True),
        ("pitta", "2 pita breads", True),
        ("lasagna", "9 lasagne sheets", True),
        ("smoothie", "berry smoothies", True),
        ("peanut butter", "2 tbsp pea nut butter", True),
        ("buttermilk", "butter, milk", False),
        ("buttermilk", "butter (melted) milk", False),
        ("buttermilk", "milk butter", False),
        ("buttermilk", "butter and milk", False),
        ("milk", "buttermilk", False),
        ("butter", "buttermilk", False),
        ("pea", "peanut", False),
        ("nut", "pea-nut", True),
        ("chick", "chickpeas", False),
    ],
)
def test_one_word_written_as_two(tmp_path: Path, query: str, line: str, passes: bool) -> None:
    """`--without chickpea` kept the recipes with "chick peas"."""
    writer = RecordWriter(tmp_path / FILE)
    writer.append(
        [Recipe(id="a", ingredients=("salt", line)), Recipe(id="b", ingredients=("oil",))]
    )
    writer.close()
    positions = Records(tmp_path / FILE).with_ingredient(query).tolist()
    assert positions == ([0] if passes else [])


def test_a_table_of_older_rules_is_not_looked_up(tmp_path: Path, records: Records) -> None:
    """Its "leave" of "bay leaves" would let pass what it should not."""
    connection = sqlite3.connect(tmp_path / FILE)
    connection.executescript(
        "DROP TABLE word_forms; UPDATE ingredient_words SET word = 'leave' WHERE word = 'leaf';"
        "PRAGMA user_version = 0;"
    )
    connection.close()
    old = Records(tmp_path / FILE)
    with ThreadPoolExecutor() as pool:  # the first threads to ask make the new table once
        positions = list(pool.map(lambda _: old.with_ingredient("bay leaf").tolist(), range(8)))
    assert positions == [[5, 6]] * 8
    assert old.with_ingredient("jalapeños").tolist() == [5]
    assert sqlite3.connect(tmp_path / FILE).execute("PRAGMA user_version").fetchone() == (0,)


@given(
    lines=st.lists(st.sampled_from("egg eggplant nut nutmeg pea peas peanuts nuts".split())),
    word=st.sampled_from("egg eggs pea nut nuts nutmeg".split()),
)
def test_without_and_having_part_the_items(lines: list[str], word: str) -> None:
    """An item in both, or in none, is shown to someone who must not eat it."""
    with TemporaryDirectory() as folder:
        writer = RecordWriter(Path(folder) / FILE)
        writer.append([Recipe(id=str(i), ingredients=(line,)) for i, line in enumerate(lines)])
        writer.close()
        records = Records(Path(folder) / FILE)
        having = Filter(having=(word,)).mask(records, len(lines))
        without = Filter(without=(word,)).mask(records, len(lines))
    assert having.tolist() == (~without).tolist()
    assert having.tolist() == [line in (word.rstrip("s"), word.rstrip("s") + "s") for line in lines]


def test_a_filter_without_a_word_is_refused() -> None:
    """It would silently forbid nothing."""
    with pytest.raises(InputError, match="no word"):
        Filter(without=("!!",))


def test_records_come_back_as_written(records: Records) -> None:
    """Answers show them."""
    assert records.recipes([4, 1]) == {4: RECIPES[4], 1: RECIPES[1]}
    assert records.ids([0]) == {0: "a"}


def test_damaged_records_are_named(tmp_path: Path) -> None:
    """SQLite's own error names no file."""
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(ArtifactError, match="damaged"):
        Records(tmp_path / FILE).ids([0])
    with pytest.raises(ArtifactError, match="missing"):
        Records(tmp_path / "none")
