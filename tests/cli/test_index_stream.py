"""`hficma index --data -`: recipes from a pipe."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from hficma.engine import index_info
from tests.cli.conftest import Hficma
from tests.engine.datasets import NoiseDataset


def test_recipes_come_from_a_pipe(
    hficma: Hficma, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bad lines are told and left out; `--partition` chooses as it does from a file."""
    data = NoiseDataset(12)
    lines = [json.dumps(data.recipe(i).to_json()) for i in range(10)]
    lines[3] = '{"no": "recipe"}'
    lines.append(json.dumps({**data.recipe(11).to_json(), "partition": "test"}))

    def piped() -> None:
        content = io.BytesIO("\n".join(lines).encode())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))

    bundle = next((home / "bundles").iterdir())
    piped()
    ended = hficma("index", "--bundle", bundle, "--data", "-", "--out", tmp_path / "all")
    assert ended.code == 0, ended.err
    assert "line 4" in ended.err
    assert index_info(tmp_path / "all")["items"] == 10
    piped()
    some = ("--partition", "test", "--out", tmp_path / "test")
    assert hficma("index", "--bundle", bundle, "--data", "-", *some).code == 0
    assert index_info(tmp_path / "test")["items"] == 1
    piped()
    ended = hficma("index", "add", "--index", tmp_path / "test", "--data", "-")
    assert ended.code == 0, ended.err
    assert index_info(tmp_path / "test")["items"] == 10
