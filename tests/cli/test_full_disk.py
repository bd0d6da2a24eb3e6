"""A disk that fills up: one line, exit 2, nothing half-written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Hficma


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_onto_a_full_disk(hficma: Hficma, photo: Path, tmp_path: Path) -> None:
    """The page of an explanation cannot be written where there is no room."""
    page = tmp_path / "why.html"
    ended = hficma("search", "--image", photo, "--explain", "/dev/full/why.html")
    assert ended.code == 2
    assert "cannot be written" in ended.err
    assert not page.exists()


def test_a_disk_that_fills_while_indexing(
    hficma: Hficma, recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's own error, raised where the index is put on the disk."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "index"
    ended = hficma("index", "--data", recipes, "--out", out)
    assert ended.code == 2, ended.err
    assert "No space left" in ended.err
    assert "Traceback" not in ended.err
    assert not out.exists()
