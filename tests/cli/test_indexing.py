"""`hficma index`: what is made, taken up, and refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hficma.engine import build_index, index_info
from tests.cli.conftest import Hficma
from tests.engine.test_build import LOOKED_AT, Interrupted


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
    assert "--restart" in ended.err
    ended = hficma("index", "--bundle", bundle, "--data", own, "--restart")
    assert ended.code == 0, ended.err
    assert index_info(named)["items"] == 1
    assert [path.name for path in indexes.iterdir()] == [named.name]
