"""What is read of an index's file was compared with its checksum, once, and stays readable."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hficma.artifacts.file_memory import FileIdentity, FileMemory
from hficma.engine.files.checksums import BLOCK, BlockSums, CheckedFile, digest_file
from hficma.engine.files.file_bytes import FileBytes, open_bytes
from hficma.errors import ArtifactError


def checked(path: Path, memory: FileMemory, *, blocks: bool = True) -> CheckedFile:
    digest = digest_file(path)
    file = open_bytes(path, digest.size)
    return CheckedFile(file, digest.sums if blocks else None, digest.sha256, memory)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), size=st.integers(1, 5 * BLOCK))
def test_every_block_of_what_is_read_is_compared_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, size: int
) -> None:
    """One block too few is a wrong answer, one too many a slow search."""
    content = np.zeros(size, np.uint8)
    sums = BlockSums()
    sums.update(content.data)
    wrong = data.draw(st.integers(0, size - 1))
    content[wrong] = 1
    folder = tmp_path_factory.getbasetemp()
    identity = FileIdentity(0, 0, size, 0, 0)
    file = CheckedFile(
        FileBytes(folder / "x", content, identity), sums.array(), None, FileMemory("index", folder)
    )
    ranges = data.draw(
        st.lists(st.tuples(st.integers(0, size), st.integers(0, size)).map(sorted), max_size=4)
    )
    starts, stops = np.array(ranges, dtype=np.int64).reshape(-1, 2).T
    touched = any(
        start < stop and start // BLOCK <= wrong // BLOCK <= (stop - 1) // BLOCK
        for start, stop in ranges
    )
    try:
        file.check(starts, stops)
        refused = False
    except ArtifactError:
        refused = True
    assert refused == touched


@pytest.mark.parametrize("blocks", [True, False], ids=["blocks", "sha256"])
def test_a_file_found_whole_is_remembered_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: bool
) -> None:
    """A large index would be read whole by every process; one changed since must be."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(2 << 20))
    memory = FileMemory("index", tmp_path / "cache")
    checked(path, memory, blocks=blocks).check_all()
    assert not (tmp_path / "cache").exists(), "so new that a further change would not show"
    monkeypatch.setattr("hficma.artifacts.file_memory.SETTLED_NS", -1)
    checked(path, memory, blocks=blocks).check_all()
    comparisons: list[Path] = []
    compare = CheckedFile._compare_whole
    monkeypatch.setattr(
        CheckedFile,
        "_compare_whole",
        lambda self: (comparisons.append(self.path), compare(self))[1],
    )
    remembering = checked(path, memory, blocks=blocks)
    remembering.check_all()
    assert comparisons == []
    digest = digest_file(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    sums = digest.sums if blocks else None
    changed = CheckedFile(open_bytes(path, digest.size), sums, digest.sha256, memory)
    with pytest.raises(ArtifactError, match="not as it was written"):
        changed.check_all()
    whole = remembering._identity
    assert FileMemory("index", tmp_path / "cache").digest_of(whole) is not None
    memory.forget()
    assert memory.digest_of(whole) is None


def test_where_nothing_can_be_remembered_searching_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A read-only home; a warning says that it costs time."""
    monkeypatch.setattr("hficma.artifacts.file_memory.SETTLED_NS", -1)
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / "large"
    path.write_bytes(bytes(2 << 20))
    checked(path, FileMemory("index", tmp_path / "file" / "cache")).check_all()
    assert "read again each time" in caplog.text


def test_mapped_bytes_outlive_name_and_descriptor(tmp_path: Path) -> None:
    """A reader goes on while a writer compacts its shards away."""
    path = tmp_path / "x"
    content = os.urandom(1 << 17)
    path.write_bytes(content)
    part = open_bytes(path, len(content)).content[5:]
    path.unlink()
    assert part.tobytes() == content[5:]
    with pytest.raises(ValueError, match="read-only"):
        part[0] = 0
