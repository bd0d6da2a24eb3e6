"""A filter that does nothing, or leaves nothing, says so and offers what there is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hficma.engine import Engine, Filter, IndexWriter, build_index
from hficma.engine.index import word_table
from hficma.recipe import Recipe
from hficma.text.inflection import RULES
from tests.engine.datasets import NoiseDataset

LINES = (
    ("3 jalapeños", "tomato"), ("2 jalapeños", "1 bay leaf"), ("salt", "butter"),
    ("salt", "peanut butter"), ("salt", "coriander"),
)  # fmt: skip
CATEGORIES = ("Salsa", "Stock", "Toast", "Dessert", None)


class Kitchen(NoiseDataset):
    """Five recipes of a cook, with photos of noise."""

    def __init__(self) -> None:
        super().__init__(len(LINES))

    def recipe(self, index: int) -> Recipe:
        return replace(super().recipe(index), ingredients=LINES[index], category=CATEGORIES[index])


@pytest.fixture(scope="module")
def kitchen(hf_icma_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of three shards, one item removed."""
    path = tmp_path_factory.mktemp("index") / "kitchen"
    build_index(hf_icma_bundle, Kitchen(), path, shard_items=2)
    with IndexWriter(path) as writer:
        writer.remove(["r4"])
    return path


@pytest.mark.parametrize(
    ("filter", "count", "notes"),
    [
        (Filter(without=("jalapeno",)), 2, ()),
        (Filter(having=("jalapenno",)), 0, ("has 'jalapenno'; nearest: jalapeno",)),
        (Filter(without=("Jalapennos",)), 4, ("has 'Jalapennos'; nearest: jalapeno",)),
        (Filter(having=("bay leav",)), 0, ("has 'bay leav'; nearest: bay leaf",)),
        (Filter(having=("unicorn",)), 0, ("has 'unicorn'",)),
        (Filter(having=("butter peanut",)), 0, ("'butter peanut' in one line, its words side",)),
        (Filter(having=("coriander",)), 0, ("has 'coriander'",)),  # of the removed item
        (Filter(categories=("dessert",)), 1, ()),
        (Filter(categories=("Desert",)), 0, ("has the category 'Desert'; nearest: Dessert",)),
        (Filter(categories=("Desert", "SALSA")), 1, ("the category 'Desert'; nearest",)),
        (Filter(partitions=("tran",)), 0, ("has the partition 'tran'; nearest: train",)),
        (Filter(ids=("zzz",)), 0, ("has the id 'zzz'",)),
        (
            Filter(having=("salt",), without=("egg", "butter"), partitions=("train",)), 0,
            ("has 'egg'", "passes with 'salt' and without 'butter'"),
        ),
        (Filter(having=("tomato",), categories=("Toast",)), 0,
         ("passes with 'tomato' and with category 'Toast'",)),
    ],
)  # fmt: skip
def test_notes(kitchen: Path, filter: Filter, count: int, notes: tuple[str, ...]) -> None:
    """A misspelt allergen filters nothing, and an empty answer looks like a broken search."""
    with Engine.open(kitchen, threads=1) as engine:
        answer = engine.search(image=Kitchen().photo(0), k=5, exact=True, filter=filter)
    assert (len(answer.hits), answer.searched, answer.certified) == (count, count, count)
    assert len(answer.notes) == len(notes)
    for note, part in zip(answer.notes, notes, strict=True):
        assert note.startswith("no recipe of the index ")
        assert note.endswith(part) or part in note
    if "'unicorn'" in str(notes) or "'coriander'" in str(notes):
        assert "nearest" not in answer.notes[0]


def test_an_old_index_is_written_again_by_compact(
    hf_icma_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Or its filters stay slow for ever; until then that is said."""
    old = tmp_path / "old"
    with monkeypatch.context() as patched:
        patched.setattr(word_table, "RULES", RULES - 1)
        build_index(hf_icma_bundle, Kitchen(), old)
    for outdated in (True, False):
        caplog.clear()
        with Engine.open(old, threads=1) as engine:
            filter = Filter(having=("bay leaves",))
            answer = engine.search(image=Kitchen().photo(0), filter=filter)
        assert [hit.id for hit in answer.hits] == ["r1"]
        assert ("`hficma index compact` writes them again" in caplog.text) is outdated
        with IndexWriter(old) as writer:
            writer.compact()
