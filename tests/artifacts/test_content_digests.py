"""Digests of files and code: what a cache is keyed by must change with the content, always."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import hficma.artifacts.content_digests
from hficma.artifacts.content_digests import code_digest, file_digests

OLD = time.time_ns() - 3600 * 10**9


def settled(file: Path) -> None:
    """Let a file look as if it had been there for an hour, as far as a user can."""
    os.utime(file, ns=(OLD, OLD))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that were read, in order; ctime, which nobody can set back, is let settle at once."""
    read: list[str] = []
    digest = hficma.artifacts.content_digests._digest
    monkeypatch.setattr("hficma.artifacts.file_memory.SETTLED_NS", -1)
    monkeypatch.setattr(
        hficma.artifacts.content_digests,
        "_digest",
        lambda name: (read.append(name), digest(name))[1],
    )
    return read


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path: Path, reads: list[str]) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"red!")
    settled(photo)
    cache = tmp_path / "cache"
    (first,) = file_digests([photo], cache)
    assert file_digests([photo, photo], tmp_path / "cache") == [first, first]
    assert len(reads) == 1, "an unchanged file was read again"
    photo.write_bytes(b"blue")
    settled(photo)  # same name, size and modification time: only ctime tells
    (second,) = file_digests([photo], cache)
    assert second != first
    photo.write_bytes(b"red!")
    assert file_digests([photo], cache) == [first], "a digest is of the content alone"


def test_a_file_that_was_just_written_is_not_taken_at_its_word(tmp_path: Path) -> None:
    """It may change again within the clock's tick, with the same size and times."""
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"new")
    file_digests([photo], tmp_path / "cache")
    assert not (tmp_path / "cache" / "content.sqlite").exists()


def test_what_is_no_file_is_neither_opened_nor_forgotten(tmp_path: Path) -> None:
    """A pipe blocks whoever opens it; a photo that appears later counts."""
    pipe, missing = tmp_path / "pipe", tmp_path / "missing.jpg"
    os.mkfifo(pipe)
    cache = tmp_path / "cache"
    before = file_digests([pipe, missing], cache)
    missing.write_bytes(b"here now")
    assert file_digests([missing], cache) != before[1:]


def test_a_damaged_memory_costs_time_alone(
    tmp_path: Path, reads: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A cache that was cut short would stop training, or slow it for good without a word."""
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"photo")
    cache = tmp_path
    (tmp_path / "content.sqlite").write_bytes(b"no database at all, but long enough to look at" * 9)
    first = file_digests([photo], cache)
    assert file_digests([photo], cache) == first
    assert file_digests([photo], cache) == first
    assert 1 <= len(reads) <= 2, "and it mends itself"
    assert caplog.text.count("is left aside") == 1


def test_names_that_are_no_text_are_files_too(tmp_path: Path, reads: list[str]) -> None:
    photo = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    photo.write_bytes(b"photo")
    cache = tmp_path / "cache"
    assert file_digests([photo], cache) == file_digests([photo], cache)
    assert len(reads) == 1


def test_code_digests_follow_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kitchen"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "knife.py").write_text("sharp = True")
    (folder / "pot.py").write_text("hot = True")
    monkeypatch.syspath_prepend(tmp_path)
    names = ("kitchen", "kitchen.k*", "kitchen.knife", "kitchen.pot")
    before = {name: code_digest(name) for name in names}
    (folder / "knife.py").write_text("sharp = False")
    assert {name for name in names if code_digest(name) != before[name]} == set(), "once a process"
    code_digest.cache_clear()
    changed = {name for name in names if code_digest(name) != before[name]}
    assert changed == {"kitchen", "kitchen.k*", "kitchen.knife"}
    assert code_digest(packages=("numpy",)) != code_digest(packages=("not-installed-at-all",))
