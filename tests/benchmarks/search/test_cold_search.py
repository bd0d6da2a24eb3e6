"""The benchmark of a fresh process's first search asks in every way that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hficma.benchmarks.search.cold_search import WAYS, main


def test_every_way_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A way that is not asked would be a claim without a figure."""
    monkeypatch.setenv("HFICMA_HOME", str(tmp_path))
    main(size=1000, rounds=1, against=None)
    lines = capsys.readouterr().out.splitlines()
    for way in [*WAYS, "warm"]:
        (line,) = [line for line in lines if line.startswith(f"{way} ")]
        assert re.search(r"this version \d+\.\d \[", line)
