"""What a manifest says of an index is enough to choose one by, and its keys never change."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from hficma.artifacts.manifest import MANIFEST, read_manifest, write_manifest
from hficma.artifacts.workspace import Workspace
from hficma.engine.index.index_facts import IndexFacts, newest_index
from hficma.errors import ArtifactError
from tests.torture.flips import OLDER

_opened: list[Path] | None = None
"""Files that are opened, while a test counts them."""


def _note_open(event: str, arguments: tuple[object, ...]) -> None:
    if _opened is None or event not in ("open", "sqlite3.connect"):
        return
    if isinstance(arguments[0], (str, bytes, os.PathLike)):
        _opened.append(Path(os.fsdecode(arguments[0])))


sys.addaudithook(_note_open)  # for as long as the process lives: it notes nothing between tests


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Thirty whole indexes of recipes, the oldest of which is made one of photos."""
    for number in range(30):
        path = tmp_path / "indexes" / f"index-{number:02}"
        shutil.copytree(OLDER / "index", path)
        manifest = read_manifest(path, kind="index")
        if number == 0:
            manifest.facts["of"] = "images"
        write_manifest(path, manifest)  # dates it, to the microsecond
    return Workspace(tmp_path)


def test_the_newest_index_is_chosen_by_manifests_alone(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every search without an index named opened the shards of all newer ones of the other kind."""
    monkeypatch.setattr(sys.modules[__name__], "_opened", opened := [])
    assert newest_index(workspace, "images") == workspace.home / "indexes" / "index-00"
    assert {path.name for path in opened} == {MANIFEST}
    assert len({path.parent for path in opened}) == 30
    assert newest_index(workspace, "recipes") == workspace.home / "indexes" / "index-29"


def test_a_workspace_without_such_an_index_has_none(workspace: Workspace) -> None:
    """The command line then says how to make one."""
    shutil.rmtree(workspace.home / "indexes" / "index-00")
    assert newest_index(workspace, "images") is None
    assert newest_index(Workspace(workspace.home / "nowhere"), "recipes") is None


def test_a_damaged_manifest_is_named(workspace: Workspace) -> None:
    """To pass over it would answer from an older index without a word."""
    (workspace.home / "indexes" / "index-29" / MANIFEST).write_text("{")
    with pytest.raises(ArtifactError, match="index-"):
        newest_index(workspace, "images")


def test_the_manifest_keys_of_renamed_fields_stay() -> None:
    """An index that this version writes must be read by the last one, and the other way round."""
    facts = IndexFacts.read(OLDER / "index")
    assert (
        json.loads(json.dumps(facts.to_json()))
        == read_manifest(OLDER / "index", kind="index").facts
    )
    assert {"keep", "side_precision"} <= facts.to_json().keys()
    assert facts.level == facts.to_json()["keep"]
