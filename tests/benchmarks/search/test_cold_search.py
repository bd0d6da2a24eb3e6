"""The benchmark of a fresh process's first search asks in every way that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hficma.benchmarks.search.cold_search import WAYS, app


def test_every_way_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A way that is not asked would be a claim without a figure."""
    monkeypatch.setenv("HFICMA_HOME", str(tmp_path))
    ended = CliRunner().invoke(app, ["--size", "1000", "--rounds", "1"], catch_exceptions=False)
    assert ended.exit_code == 0
    for way in [*WAYS, "warm"]:
        (line,) = [line for line in ended.output.splitlines() if line.startswith(f"{way} ")]
        assert re.search(r"this version \d+\.\d \[", line)
