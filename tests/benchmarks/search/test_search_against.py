"""Two installations are compared answer by answer, in turns."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import typer

from hficma.benchmarks.search.search_against import main
from hficma.engine import build_index
from hficma.errors import ArtifactError
from tests.engine.datasets import NoiseDataset
from tests.engine.factories import tiny_bundle


def test_a_version_answers_as_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A comparison that finds differences where there are none would compare nothing."""
    index = build_index(tiny_bundle(tmp_path), NoiseDataset(12), tmp_path / "index")
    with pytest.raises(typer.Exit) as ended:
        main(Path(sys.executable), index=index, data="sample:100", queries=2, rounds=2, threads=1)
    assert ended.value.exit_code == 0
    said = capsys.readouterr().out
    assert "differ by: ids 0, scores 0, certified 0" in said
    assert re.search(r"query by query: \d\.\d+ \[", said)


def test_a_python_without_the_package_is_named_an_error(tmp_path: Path) -> None:
    """The other process's traceback alone would not say that nothing was compared."""
    index = build_index(tiny_bundle(tmp_path), NoiseDataset(12), tmp_path / "index")
    with pytest.raises(ArtifactError, match="cannot answer"):
        main(Path("/usr/bin/false"), index=index, data="sample:100", queries=2, rounds=1)
