"""What a command takes where the user names nothing: the newest of its kind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hficma.artifacts.manifest import MANIFEST, new_directory
from hficma.artifacts.workspace import Workspace, find_bundle, undated_name
from hficma.errors import ArtifactError


def write_report(
    workspace: Workspace, name: str, *, created: str | None = None, mtime: int = 0
) -> None:
    """A report, dated by its manifest or, as older versions did, by the file only."""
    path = workspace.home / "reports" / name
    with new_directory(path, kind="report", made_by="test"):
        pass
    record = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    assert record.pop("created").endswith("+00:00")
    if created is not None:
        record["created"] = created
    (path / MANIFEST).write_text(json.dumps(record), encoding="utf-8")
    os.utime(path / MANIFEST, (mtime, mtime))


def test_the_newest_is_told_by_its_own_date(tmp_path: Path) -> None:
    """A copied workspace gets new times of files: another bundle would answer from then on."""
    workspace = Workspace(tmp_path)
    write_report(
        workspace, "first", created="2026-01-01T10:00:00.000000+00:00", mtime=2_000_000_000
    )
    write_report(workspace, "last", created="2026-03-01T10:00:00.000000+02:00", mtime=1_000_000_000)
    write_report(workspace, "older-version", mtime=1_769_904_000)  # 2026-02-01
    write_report(workspace, "damaged", created="yesterday", mtime=1_000)
    names = [path.name for path in workspace.all("report")]
    assert names == ["last", "older-version", "first", "damaged"]
    assert workspace.newest("report").name == "last"


def test_a_bundle_in_another_place_is_taken_by_its_model_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An index that was moved would not open, or would open with a bundle nobody knows of."""
    caplog.set_level("INFO", logger="hficma")
    index = tmp_path / "indexes" / "mine"
    for name, model in (("other", "a" * 64), ("right", "b" * 64)):
        with new_directory(tmp_path / "bundles" / name, kind="bundle", made_by="test") as (
            _,
            facts,
        ):
            facts["model_id"] = model
    bundle = find_bundle(index, recorded="../gone", model_id="b" * 64)
    assert bundle.name == "right"
    assert f"{bundle} is of its model" in caplog.text
    with pytest.raises(ArtifactError, match="say where it is"):
        find_bundle(index, recorded="../gone", model_id="c" * 64)


def test_a_name_is_of_the_workspace_and_a_path_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`train --run mine` wrote ./mine, which no other command took for the newest run."""
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(Path("workspace"))
    assert workspace.resolve("run", "mine") == Path("workspace/runs/mine")
    for path in ("./mine", "runs/mine", str(tmp_path / "mine")):
        assert workspace.resolve("run", path) == Path(path)
    (tmp_path / "mine").mkdir()
    assert workspace.resolve("run", "mine") == Path("mine"), "an existing path wins"


def test_a_name_is_known_without_its_date() -> None:
    """A run called my-own-run gave a bundle called my."""
    for name in ("my-own-run", "my-own-run-20260101-120000", "my-own-run-20260101-120000-2"):
        assert undated_name(Path("runs") / name) == "my-own-run"
