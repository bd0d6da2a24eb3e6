"""The benchmark of the cookbook: what counts as a hit, and that its labels name what exists."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from hficma.artifacts.workspace import Workspace
from hficma.benchmarks.quality import cookbook
from hficma.data.dataset import open_dataset, positions
from hficma.engine import Engine, build_index
from hficma.errors import InputError
from hficma.training import train
from tests.engine.factories import tiny_bundle
from tests.training.conftest import DATA, SMALL


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cookbook, indexed by a random model."""
    home = tmp_path_factory.mktemp("index")
    bundle = tiny_bundle(home, "adamine")
    return build_index(bundle, open_dataset("cookbook"), home / "cookbook")


def test_labels_name_recipes_of_the_cookbook() -> None:
    """A recipe renamed in the cookbook would never be right again, and every figure would fall."""
    dishes = tomllib.loads(cookbook.DISHES.read_text(encoding="utf-8"))
    dataset = open_dataset("cookbook")
    names = {dataset.recipe(place).id for place in range(len(dataset))}
    assert len(dishes) > 500
    for right in dishes.values():
        assert right
        assert names.issuperset(right)
        assert len(set(right)) == len(right)


def test_a_hit_is_a_right_recipe_among_the_first(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best of several right ones counts, and none of them beyond the first ten."""
    dataset = open_dataset(DATA)
    one, other, third = positions(dataset, ("test",))[:3].tolist()
    with Engine.open(index) as engine:
        ranked = [
            [hit.id for hit in engine.search(image=dataset.photo(row), k=20).hits]
            for row in (one, other, third)
        ]
    dishes = {
        dataset.recipe(one).id: [ranked[0][6], ranked[0][2]],
        dataset.recipe(other).id: [ranked[1][15]],
        dataset.recipe(third).id: [ranked[2][0]],
    }
    answers = cookbook.answers_of_index(dataset, dishes, index)
    assert [answer.rank for answer in answers] == [3, cookbook.DEPTH + 1, 1]
    assert [answer.first for answer in answers] == [first for first, *_ in ranked]

    labels = tmp_path / "dishes.toml"
    labels.write_text("\n".join(f'"{key}" = {value}' for key, value in dishes.items()))
    monkeypatch.setattr(cookbook, "DISHES", labels)
    cookbook.main(data=DATA, index=index, photos=True, json_file=tmp_path / "out.json")
    record = json.loads((tmp_path / "out.json").read_text())
    assert [record[name] for name in cookbook.COLUMNS] == pytest.approx([100 / 3, 200 / 3, 200 / 3])
    assert sum(group["photos"] for group in record["categories"].values()) == 3
    low, high = record["intervals"]["hit@5"]
    assert 0 < low < 200 / 3 < high < 100
    printed = capsys.readouterr().out
    assert "| at random |" in printed
    assert dataset.recipe(other).title in printed


def test_chance_is_that_of_a_random_order() -> None:
    """Two right recipes are found sooner than one; a figure without it says little."""
    assert cookbook.chance(1, 10, 300) == pytest.approx(10 / 300)
    orders = np.random.default_rng(0).permuted(np.tile(np.arange(30), (20_000, 1)), axis=1)
    hit = (orders[:, :5] < 2).any(axis=1).mean()
    assert cookbook.chance(2, 5, 30) == pytest.approx(hit, abs=0.01)


def test_another_dataset_is_refused(index: Path) -> None:
    """Its ids may be those of other dishes, and every answer would be judged by them."""
    with pytest.raises(InputError, match="of another dataset"):
        cookbook.answers_of_index(open_dataset(DATA), {"00019": ["cookbook:borscht"]}, index)


def test_folds_ask_models_for_photos_that_they_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every labelled photo that the run learnt from is asked once, and no other."""
    monkeypatch.setenv("HFICMA_HOME", str(tmp_path))
    overrides = (*SMALL, "trainer.epochs=1")
    run = train("hf-icma-small", overrides, data=DATA, workspace=Workspace(tmp_path))
    dataset = open_dataset(DATA)
    learnt = [dataset.recipe(row) for row in positions(dataset, ("train", "val"))[::4].tolist()]
    (test, *_) = positions(dataset, ("test",)).tolist()
    dishes = {r.id: ["cookbook:borscht"] for r in (*learnt, dataset.recipe(test))}
    answers = cookbook.answers_of_folds(str(run), None, dishes, folds=2)
    assert sorted(a.title for a in answers) == sorted(r.title for r in learnt)
    assert all(1 <= answer.rank <= cookbook.DEPTH + 1 for answer in answers)
