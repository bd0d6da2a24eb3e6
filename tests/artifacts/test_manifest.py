"""Artifacts appear whole or not at all, are read as written, and lead nowhere else."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hficma.artifacts.manifest import (
    MANIFEST,
    disk_reason,
    inside,
    new_directory,
    read_manifest,
    verified_file,
    write_atomically,
)
from hficma.errors import ArtifactError, InputError


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "r"
    with new_directory(path, kind="report", made_by="test") as (building, facts):
        (building / "sub").mkdir()
        (building / "sub" / "a.txt").write_text("a")
        facts.update(weight=0.25, names=("x", "é"), none=None, deep={"1": [1, 2]})
    return path


def test_a_manifest_is_read_as_written(report: Path) -> None:
    manifest = read_manifest(report, kind="report")
    assert manifest.facts == {
        "weight": 0.25,
        "names": ["x", "é"],
        "none": None,
        "deep": {"1": [1, 2]},
    }
    assert list(manifest.files) == ["sub/a.txt"]
    assert verified_file(report, manifest, "sub/a.txt").read_text() == "a"


def test_of_two_that_write_one_name_the_second_is_told(tmp_path: Path) -> None:
    """ "Directory not empty" does not say whose; and what the first wrote must stay."""
    path = tmp_path / "r"
    second = new_directory(path, kind="report", made_by="second")
    second.__enter__()
    with new_directory(path, kind="report", made_by="first"):
        pass
    with pytest.raises(ArtifactError, match="written by another process meanwhile"):
        second.__exit__(None, None, None)
    assert read_manifest(path, kind="report").made_by == "first"
    assert [other.name for other in tmp_path.iterdir()] == ["r"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_flipped_bit_of_a_manifest_is_read(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    """A flipped digit of a weight or of a removed item's number would change answers."""
    path = tmp_path_factory.mktemp("m") / "r"
    with new_directory(path, kind="report", made_by="test") as (_, facts):
        facts.update(weight=0.25, removed=[3, 17, 4000], model={"kind": "x"})
    before = read_manifest(path, kind="report")
    content = bytearray((path / MANIFEST).read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    (path / MANIFEST).write_bytes(content)
    try:
        after = read_manifest(path, kind="report")
    except ArtifactError:
        return
    assert after == before, "a blank may have become another blank, nothing else"


def test_a_manifest_without_a_hash_is_read(report: Path) -> None:
    """As versions before wrote them."""
    wanted = read_manifest(report, kind="report")
    record = json.loads((report / MANIFEST).read_text())
    del record["sha256"]
    (report / MANIFEST).write_text(json.dumps(record))
    assert read_manifest(report, kind="report") == wanted
    record["sha265"] = "0" * 64
    (report / MANIFEST).write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match="not as it was written"):
        read_manifest(report, kind="report")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 50_000,
        '{"kind": "report", "kind": "report"}',
        "null",
        "[]",
        "1" * 5000,
        '"\\ud800"',
        "",
        "{",
        '{"kind": 1}',
        '{"kind": "report", "made_by": "x", "files": [], "facts": {}, "format_version": 1}',
        '{"kind": "report", "made_by": "x", "files": {}, "facts": 1, "format_version": 1}',
        '{"kind": "report", "made_by": "x", "files": {}, "facts": {}, "format_version": 1e400}',
        '{"kind": "report", "made_by": "x", "files": {"a": 1}, "facts": {}, "format_version": 1}',
    ],
)
def test_what_is_no_manifest_is_one_line(report: Path, text: str) -> None:
    """A traceback, or a type that code further in takes for another."""
    (report / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError) as refused:
        read_manifest(report, kind="report")
    assert "\n" not in str(refused.value)
    assert MANIFEST in str(refused.value)


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../../b", "a\\b", "C:x", "", "a\0"])
def test_a_name_that_leads_out_is_refused(report: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match="leads out"):
        inside(report, name)


def test_no_link_is_followed_inside_an_artifact(report: Path, tmp_path: Path) -> None:
    """A folder or a file of it that is a link would have anything read, or deleted."""
    (tmp_path / "victim").mkdir()
    (report / "links").symlink_to(tmp_path / "victim")
    with pytest.raises(ArtifactError, match="links: is a link"):
        inside(report, "links/a/b")
    manifest = report / MANIFEST
    manifest.rename(tmp_path / "m.json")
    manifest.symlink_to(tmp_path / "m.json")
    with pytest.raises(ArtifactError, match="is a link"):
        read_manifest(report, kind="report")


def test_the_artifact_itself_may_be_reached_through_a_link(report: Path, tmp_path: Path) -> None:
    """Workspaces are links to larger disks."""
    (tmp_path / "elsewhere").symlink_to(report)
    assert read_manifest(tmp_path / "elsewhere", kind="report").kind == "report"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError('IoError(Os { code: 28, message: "No space left on device" })'),
        ValueError("mdb_txn_commit: No space left on device"),
    ],
)
def test_a_full_disk_is_one_line_in_any_library_s_words(tmp_path: Path, error: Exception) -> None:
    """safetensors and LMDB raise errors of their own."""
    with (
        pytest.raises(ArtifactError, match=r"cannot be written \(No space left on device\)"),
        new_directory(tmp_path / "x", kind="report", made_by="test"),
    ):
        raise error
    assert not list(tmp_path.iterdir())


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    """A defect of ours called a full disk would never be found."""
    with (
        pytest.raises(ZeroDivisionError),
        new_directory(tmp_path / "x", kind="report", made_by="test"),
    ):
        1 / 0  # noqa: B018
    assert disk_reason(InputError("No space left on device")) is None
    assert not list(tmp_path.iterdir())


KILLED = """
import sys, time
from pathlib import Path
from hficma.artifacts.manifest import new_directory
with new_directory(Path(sys.argv[1]), kind="report", made_by="test") as (building, facts):
    (building / "large").write_bytes(b"x" * 1000)
    print("writing", flush=True)
    time.sleep(60)
"""


def test_the_next_run_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    """27 MB would stay for ever after each; what a living process writes stays, under any name."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / name)], stdout=subprocess.PIPE, text=True
        )
        for name in ("killed", "living")
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "writing\n"
        writers[0].send_signal(signal.SIGKILL)
        writers[0].wait()
        assert len(list(tmp_path.iterdir())) == 4  # a folder and a lock each
        with new_directory(tmp_path / "other", kind="report", made_by="test"):
            pass
        left = sorted(path.name for path in tmp_path.iterdir())
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert left[2:] == ["other"]
    assert [name.split(".")[1] for name in left[:2]] == ["living", "living"]


def test_folders_without_a_lock_are_swept_when_they_are_old(tmp_path: Path) -> None:
    """As older versions left them; a stranger's folder of another name is none of ours."""
    for name in (".a.abcdefgh.part", ".a.12345678.part", ".b.abcdefgh.part"):
        (tmp_path / name).mkdir()
        if "1234" not in name:
            os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    with new_directory(tmp_path / "a", kind="report", made_by="test"):
        pass
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a", ".a.12345678.part", ".b.abcdefgh.part"}


def test_files_of_ended_processes_are_swept(tmp_path: Path) -> None:
    """`.manifest.json.PID.part`, also where a new process was given the old one's number."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    leftovers = [f".m.json.{ended.pid}.part", f".m.json.{os.getpid()}.part"]
    others = [f".m.json.{os.getppid()}.part", f".n.json.{ended.pid}.part"]
    for name in leftovers + others:
        (tmp_path / name).write_text("half")
    write_atomically(tmp_path / "m.json", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"m.json", *others}
    assert (tmp_path / "m.json").read_bytes() == b"whole"
