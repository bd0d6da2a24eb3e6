"""What is remembered of a file holds for that content and that purpose, and for nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hficma.artifacts.file_memory import FileIdentity, FileMemory


def test_one_file_is_remembered_for_each_purpose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo's SHA-256 would be taken for the checksum that an index's file was compared with."""
    monkeypatch.setattr("hficma.artifacts.file_memory.SETTLED_NS", -1)
    file = tmp_path / "file"
    file.write_bytes(b"content")
    identity = FileIdentity.of(file.stat())
    caches, index = FileMemory("caches", tmp_path), FileMemory("index", tmp_path)
    caches.remember({identity: "one"})
    assert index.digest_of(identity) is None
    index.remember({identity: "two"})
    assert (caches.digest_of(identity), index.digest_of(identity)) == ("one", "two")
    assert FileMemory("index", tmp_path).recall([identity]) == {identity: "two"}
    index.forget()
    assert FileMemory("caches", tmp_path).recall([identity]) == {identity: "one"}
    assert FileMemory("index", tmp_path).recall([identity]) == {}


def test_a_file_whose_content_may_have_changed_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo in the place of another, with its name, size and date, would get its regions."""
    monkeypatch.setattr("hficma.artifacts.file_memory.SETTLED_NS", -1)
    file = tmp_path / "file"
    file.write_bytes(b"red!")
    before = FileIdentity.of(file.stat())
    memory = FileMemory("caches", tmp_path)
    memory.remember({before: "digest of red"})
    renamed = file.rename(tmp_path / "renamed")
    os.utime(renamed, ns=(before.modified, before.modified))
    after = FileIdentity.of(renamed.stat())
    assert (before.size, before.modified) == (after.size, after.modified)
    assert memory.recall([after]) == {}, "ctime tells"
    assert memory.digest_of(before) == "digest of red"
    assert memory.digest_of(before._replace(inode=before.inode + 1)) is None
