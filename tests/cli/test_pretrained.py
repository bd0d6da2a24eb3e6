"""The product with nothing of one's own: the package's cookbook and model stand in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import hficma.pretrained
from hficma.data import open_dataset
from hficma.engine import build_index, index_info
from tests.cli.conftest import Hficma


@pytest.fixture(scope="module")
def brought(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a released package brings, with a random model in the place of the learnt one."""
    folder = tmp_path_factory.mktemp("site-packages") / "pretrained"
    (bundle,) = (home / "bundles").iterdir()
    shutil.copytree(bundle, folder / "bundle")
    shutil.copy(hficma.pretrained.pretrained_path("cookbook"), folder)
    build_index(folder / "bundle", open_dataset("cookbook"), folder / "index")
    return folder


@pytest.fixture
def empty(hficma: Hficma, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace of somebody who has just installed it."""
    monkeypatch.setenv("HFICMA_HOME", str(tmp_path / "workspace"))
    return tmp_path / "workspace"


@pytest.fixture
def pretrained(brought: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with a model."""
    monkeypatch.setattr("hficma.pretrained.FOLDER", brought)
    return brought


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation without a model, as a checkout is before `make pretrained`."""
    folder = tmp_path / "bare"
    folder.mkdir()
    shutil.copy(hficma.pretrained.pretrained_path("cookbook"), folder)
    monkeypatch.setattr("hficma.pretrained.FOLDER", folder)
    return folder


def test_a_photo_is_answered_from_the_cookbook(
    hficma: Hficma, photo: Path, pretrained: Path, empty: Path
) -> None:
    """Whoever has just installed it asked about dinner, and was told to train a model first.

    What is said about it stays off stdout, which a script reads.
    """
    ended = hficma("search", "--image", photo, "-k", "3", "--json")
    assert ended.code == 0, ended.err
    hits = json.loads(ended.out)["hits"]
    assert len(hits) == 3
    assert all(hit["id"].startswith("cookbook:") and hit["instructions"] for hit in hits)
    first, second = ended.err.splitlines()[:2]
    assert first == f"no index of recipes in {empty}: answering from hficma's cookbook, 300 recipes"
    assert second == "to search your own: hficma index --data recipes.jsonl"


def test_an_index_of_ones_own_goes_before_it(hficma: Hficma, photo: Path, pretrained: Path) -> None:
    """A cookbook that answers for a collection of a million would be worse than none."""
    ended = hficma("search", "--image", photo, "-k", "3", "--json")
    assert "cookbook" not in ended.out + ended.err


def test_recipes_are_indexed_without_a_model_of_ones_own(
    hficma: Hficma, recipes: Path, photo: Path, pretrained: Path, empty: Path
) -> None:
    """One file and one command must do: no training, no export."""
    ended = hficma("index", "--data", recipes)
    assert ended.code == 0, ended.err
    assert f"no bundle in {empty}: encoding with hficma's pretrained model" in ended.err
    ended = hficma("search", "--image", photo, "--json")
    assert ended.code == 0, ended.err
    assert len(json.loads(ended.out)["hits"]) == 6
    assert "cookbook" not in ended.out + ended.err


def test_such_an_index_is_searched_from_another_installation(
    hficma: Hficma,
    recipes: Path,
    photo: Path,
    pretrained: Path,
    empty: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new virtual environment left the index looking for a model in the old one."""
    old = Path(shutil.copytree(pretrained, tmp_path / "old"))
    monkeypatch.setattr("hficma.pretrained.FOLDER", old)
    assert hficma("index", "--data", recipes).code == 0
    monkeypatch.setattr("hficma.pretrained.FOLDER", pretrained)
    shutil.rmtree(old)
    ended = hficma("search", "--image", photo, "--json")
    assert ended.code == 0, ended.err


def test_photos_are_not_in_the_cookbook(hficma: Hficma, pretrained: Path, empty: Path) -> None:
    """A search by ingredients needs photos of one's own; the shipped model encodes them."""
    ended = hficma("search", "--ingredients", "tomato")
    assert ended.code == 2
    assert "the cookbook of hficma has no photos" in ended.err
    assert "`hficma index --of images --data recipes.jsonl`" in ended.err


def test_the_demo_asks_the_cookbook_of_a_photo(
    hficma: Hficma, photo: Path, pretrained: Path
) -> None:
    """It shows what the package brings, whatever the workspace holds, and trains nothing."""
    ended = hficma("demo", "--image", photo)
    assert ended.code == 0, ended.err
    titles = {recipe.title for recipe in map(open_dataset("cookbook").recipe, range(300))}
    shown = [title for title in titles if title[:20] in ended.out]
    assert len(shown) >= 10
    assert "answering from hficma's cookbook" in ended.err
    ended = hficma("demo", "--image", photo, "--workspace", "elsewhere")
    assert ended.code == 2
    assert "leave --workspace out" in ended.err


def test_an_installation_without_a_model_says_so(
    hficma: Hficma, photo: Path, recipes: Path, bare: Path, empty: Path
) -> None:
    """One line, what to do in it; nothing half-made."""
    for words, part in (
        (("search", "--image", photo), "comes without a pretrained model"),
        (("demo", "--image", photo), "comes without a pretrained index"),
        (("index", "--data", recipes), "no bundle here yet"),
    ):
        ended = hficma(*words)
        assert ended.code == 2
        assert part in ended.err
        assert len(ended.err.strip().splitlines()) == 1
    assert not empty.exists()


def test_info_and_doctor_tell_of_it(
    hficma: Hficma, pretrained: Path, empty: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What answers must be there to be looked at."""
    facts = json.loads(hficma("index", "info", "--json").out)
    assert (facts["items"], facts["dataset"]) == (300, "cookbook")
    assert facts["bundle"] == str(pretrained / "bundle")
    findings = json.loads(hficma("doctor", "--json").out)
    assert findings["steps"]["search the cookbook"] == "ready"
    assert findings["bundles"]["hficma's pretrained"] == "fp32"
    monkeypatch.setattr("hficma.pretrained.FOLDER", tmp_path)
    steps = json.loads(hficma("doctor", "--json").out)["steps"]
    assert steps["search the cookbook"] == "not in this installation"


def test_the_cookbook_is_a_dataset_by_name(
    hficma: Hficma, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever trains a model can ask it about the cookbook too; a file of that name goes before."""
    (bundle,) = (home / "bundles").iterdir()
    index = tmp_path / "index"
    assert hficma("index", "--bundle", bundle, "--data", "cookbook", "--out", index).code == 0
    assert index_info(index)["items"] == 300
    monkeypatch.chdir(tmp_path)
    Path("cookbook").write_text('{"title": "Soup", "ingredients": ["salt"]}\n', encoding="utf-8")
    assert len(open_dataset("cookbook")) == 1
