"""`hficma index`: what is made, taken up, and refused in one line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hficma.engine import Bundle, IndexWriter, build_index, index_info
from tests.cli.conftest import Hficma
from tests.engine.datasets import NoiseDataset
from tests.engine.factories import tiny_bundle
from tests.engine.writing.test_build import LOOKED_AT, Interrupted


def write_recipes(path: Path, *records: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_a_second_file_without_ids_is_added(hficma: Hficma, home: Path, tmp_path: Path) -> None:
    """Ids were line numbers: every line of a second file was "in the index already"."""
    bundle = next((home / "bundles").iterdir())
    soup = {"title": "Soup", "ingredients": ["salt", "onion"]}
    salad = {"title": "Salad", "ingredients": ["olive oil", "salt"]}
    one = write_recipes(tmp_path / "one.jsonl", soup)
    two = write_recipes(tmp_path / "two.jsonl", salad, soup)
    index = tmp_path / "index"
    assert hficma("index", "--bundle", bundle, "--data", one, "--out", index).code == 0
    ended = hficma("index", "add", "--index", index, "--data", two)
    assert ended.code == 0, ended.err
    assert "1 added" in ended.out
    assert "('Soup'): this id is in the index already" in ended.err


def test_unfinished_work_is_taken_up_or_kept(
    hficma: Hficma, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other options deleted a night's work without a word; without a name it was never found."""
    monkeypatch.setenv("HFICMA_HOME", str(tmp_path))
    bundle = next((home / "bundles").iterdir())
    indexes = tmp_path / "indexes"
    named = indexes / "recipes-20260101-101500"
    data = Interrupted(30, after=2 * LOOKED_AT + 25)  # for the level, and to know it again
    with pytest.raises(KeyboardInterrupt):
        build_index(bundle, data, named, shard_items=10)
    own = write_recipes(tmp_path / "own.jsonl", {"ingredients": ["salt"]})
    ended = hficma("index", "--bundle", bundle, "--data", own)
    assert ended.code == 2
    assert "2 shards are done" in ended.err
    assert "`restart`" in ended.err
    ended = hficma("index", "--bundle", bundle, "--data", own, "--restart")
    assert ended.code == 0, ended.err
    assert index_info(named)["items"] == 1
    assert [path.name for path in indexes.iterdir()] == [named.name]


def test_a_prefilter_that_few_items_cannot_train(
    hficma: Hficma, home: Path, recipes: Path, tmp_path: Path
) -> None:
    """FAISS's refusal, a page of C++, ended the command after everything was encoded."""
    bundle, index = next((home / "bundles").iterdir()), tmp_path / "index"
    make = ("index", "--bundle", bundle, "--data", recipes, "--prefilter")
    ended = hficma(*make, "IVF4,PQ3", "--out", index)
    assert ended.code == 0, ended.err
    assert "prefilter IVF4,PQ3: 6 items are too few" in ended.err
    assert "clustering" not in ended.err
    soup = write_recipes(tmp_path / "soup.jsonl", {"title": "Soup", "ingredients": ["salt"]})
    ended = hficma("index", "add", "--index", index, "--data", soup)
    assert ended.code == 0, ended.err
    assert "1 added" in ended.out
    ended = hficma(*make, "PQ4", "--out", tmp_path / "other")
    assert ended.code == 2
    assert "PQ4" in ended.err


def copy_workspace(home: Path, to: Path, *, index: str = "recipes") -> Path:
    """A copy of a workspace at another place, and its index there."""
    shutil.copytree(home, to, copy_function=shutil.copyfile)
    return to / "indexes" / index


def test_a_copied_workspace_finds_its_bundle(
    hficma: Hficma, home: Path, photo: Path, recipes: Path, tmp_path: Path
) -> None:
    """The manifest held the path of the bundle on the machine that made it."""
    index = copy_workspace(home, tmp_path / "copy")
    bundle = next((tmp_path / "copy" / "bundles").iterdir())
    manifest = (index / "manifest.json").read_text(encoding="utf-8")
    assert str(home) not in manifest, "a path of the machine that made it"
    facts = json.loads(hficma("index", "info", "--index", index, "--json").out)
    assert facts["bundle"] == str(bundle)
    # Renamed beside that: then it is known by its model.
    bundle.rename(bundle.with_name("renamed"))
    for words in (
        ("search", "--image", photo),
        ("index", "verify"),
        ("index", "add", "--data", recipes),
    ):
        ended = hficma(*words, "--index", index)
        assert ended.code == 0, ended.err
    assert index_info(index)["items"] == 36


def test_an_index_alone_names_what_it_lacks(
    hficma: Hficma, home: Path, recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside it, in the default workspace, or by `--bundle`: each will do."""
    index = tmp_path / "alone" / "index"
    shutil.copytree(home / "indexes" / "recipes", index)
    add = ("index", "add", "--index", index, "--data", recipes)
    assert hficma(*add).code == 0, "not found in the default workspace"
    monkeypatch.setenv("HFICMA_HOME", str(tmp_path / "nothing"))
    for words in (add, ("index", "verify", "--index", index)):
        ended = hficma(*words)
        assert ended.code == 2
        assert "say where it is" in ended.err
        assert str(tmp_path / "alone") in ended.err
    shown = hficma("index", "info", "--index", index).out
    # A cell is as narrow as the path beside it is long.
    assert "not there" in " ".join(re.findall(r"[^\s│]+", shown))
    bundle = next((home / "bundles").iterdir())
    assert hficma(*add, "--bundle", bundle).code == 0
    shutil.copytree(bundle, tmp_path / "alone" / "any name")
    assert hficma(*add).code == 0, "not found beside the index"
    assert hficma("index", "verify", "--index", index).code == 0


def test_an_absolute_path_of_an_older_version_is_read(
    hficma: Hficma, home: Path, recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Indexes made before today must go on growing."""
    index, bundle = tmp_path / "index", tmp_path / "elsewhere" / "bundle"
    shutil.copytree(home / "indexes" / "recipes", index)
    shutil.copytree(next((home / "bundles").iterdir()), bundle)
    record = json.loads((index / "manifest.json").read_text(encoding="utf-8"))
    record["facts"]["bundle"] = str(bundle)
    for newer in ("sha256", "created"):
        record.pop(newer, None)
    (index / "manifest.json").write_text(json.dumps(record), encoding="utf-8")
    monkeypatch.setenv("HFICMA_HOME", str(tmp_path / "nothing"))
    assert hficma("index", "add", "--index", index, "--data", recipes).code == 0


def test_adding_with_another_model_names_both(
    hficma: Hficma, home: Path, recipes: Path, tmp_path: Path
) -> None:
    """Vectors of two models in one index are noise; it said "another model than None"."""
    index = copy_workspace(home, tmp_path / "copy")
    other = tiny_bundle(tmp_path, seed=5)
    ended = hficma("index", "add", "--index", index, "--data", recipes, "--bundle", other)
    assert ended.code == 2
    own = next((tmp_path / "copy" / "bundles").iterdir())
    for name in (own, other):
        assert str(name) in ended.err
        assert Bundle.open(name).model_id[:12] in ended.err
    assert hficma("index", "info", "--index", index, "--bundle", other).code == 2


def test_half_an_emoji_ends_no_index(hficma: Hficma, home: Path, tmp_path: Path) -> None:
    """A title with a lone surrogate, as a cut-off emoji leaves it, was a traceback."""
    data = tmp_path / "r.jsonl"
    data.write_text(
        '{"title": "half \\ud83d", "ingredients": ["salt", "half \\ud83d"], "id": "h\\ud83d"}\n'
        '{"title": "whole", "ingredients": ["salt"], "id": "whole"}\n',
        encoding="utf-8",
    )
    bundle, index = next((home / "bundles").iterdir()), tmp_path / "index"
    ended = hficma("index", "--bundle", bundle, "--data", data, "--out", index)
    assert ended.code == 0, ended.err
    with IndexWriter(index) as writer:
        assert writer.add(NoiseDataset(1), threads=1) == 1
        assert writer.remove(["whole"]) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_removing_from_the_newest_index_asks_first(home: Path, tmp_path: Path) -> None:
    """The newest may be another index than the user thinks of, and what is removed is gone."""
    index = copy_workspace(home, tmp_path / "copy")
    shutil.rmtree(index.with_name("images"))

    def remove(answer: str, *options: object) -> tuple[int, str]:
        terminal, typed = os.openpty()
        os.write(terminal, answer.encode())
        words = ["--home", tmp_path / "copy", "index", "remove", *options]
        ended = subprocess.run(
            [sys.executable, "-m", "hficma.cli", *map(str, words)],
            stdin=typed, capture_output=True, text=True, check=False,
        )  # fmt: skip
        os.close(terminal)
        os.close(typed)
        return ended.returncode, ended.stderr

    code, text = remove("n\n", "r0")
    assert code == 1
    assert f"removing 1 id from {index}" in " ".join(text.split())
    assert "nothing was confirmed" in text
    assert index_info(index)["items"] == 30
    assert remove("y\n", "r0")[0] == 0
    assert index_info(index)["items"] == 29
    code, text = remove("", "r1", "--index", index)
    assert code == 0
    assert "Go on?" not in text, "an index that was named needs no question"
