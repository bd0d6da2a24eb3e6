"""The model and index in the package: of one make, small, and without a trace of who made them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hficma.data import open_dataset
from hficma.engine import Bundle, verify_index
from hficma.engine.index.index import Index
from hficma.engine.index.index_facts import IndexFacts
from hficma.pretrained import FOLDER, has_pretrained, pretrained_path

MEGABYTES = 25
"""What a package may weigh in all of its model, cookbook and index."""

needs_model = pytest.mark.skipif(
    not has_pretrained(), reason="the checkout has no model: `make pretrained` learns it"
)


def brought() -> list[Path]:
    return [file for file in FOLDER.rglob("*") if file.is_file() and file.suffix != ".pyc"]


def test_it_is_small() -> None:
    """Whoever installs the package to train a model of their own downloads it too."""
    assert sum(file.stat().st_size for file in brought()) <= MEGABYTES * 1e6


@needs_model
def test_index_and_bundle_are_of_one_model() -> None:
    """A bundle learnt anew without the index would answer nothing."""
    facts = IndexFacts.read(pretrained_path("index"))
    with Bundle.open(pretrained_path("bundle")) as bundle:
        assert bundle.model_id == facts.model_id
    assert (facts.bundle, facts.dataset, facts.of) == ("../bundle", "cookbook", "recipes")


@needs_model
def test_the_index_holds_the_cookbook_as_it_is() -> None:
    """A recipe mended in the file but not in the index would be answered with its mistake."""
    cookbook = open_dataset("cookbook")
    expected = {recipe.id: recipe for recipe in map(cookbook.recipe, range(len(cookbook)))}
    assert not verify_index(pretrained_path("index"), dataset=cookbook).problems
    with Index.open(pretrained_path("index")) as index:
        recipes = [index.recipe(position) for position in range(index.item_count)]
    assert {recipe.id: recipe for recipe in recipes} == expected


@needs_model
def test_nothing_tells_of_the_machine_that_made_it() -> None:
    """A path of somebody's disk in every installation helps nobody who reads it."""
    for file in brought():
        if file.suffix in (".json", ".md"):
            text = file.read_text(encoding="utf-8")
            assert not re.search(r"(?<![\w.:/])/(?:home|root|Users|tmp|work|mnt|data)/", text), file
            if file.suffix == ".json":
                json.loads(text)
