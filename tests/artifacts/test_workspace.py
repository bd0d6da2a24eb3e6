"""What a command takes where the user names nothing: the newest of its kind."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hficma.artifacts.manifest import MANIFEST, new_directory
from hficma.artifacts.workspace import Workspace


def made(workspace: Workspace, name: str, *, created: str | None = None, mtime: int = 0) -> None:
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
    made(workspace, "first", created="2026-01-01T10:00:00.000000+00:00", mtime=2_000_000_000)
    made(workspace, "last", created="2026-03-01T10:00:00.000000+02:00", mtime=1_000_000_000)
    made(workspace, "older-version", mtime=1_769_904_000)  # 2026-02-01
    made(workspace, "damaged", created="yesterday", mtime=1_000)
    names = [path.name for path in workspace.all("report")]
    assert names == ["last", "older-version", "first", "damaged"]
    assert workspace.newest("report").name == "last"
