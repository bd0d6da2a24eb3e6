"""One tiny workspace that the tests of the command line share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from hficma.cli import main
from hficma.engine import build_index
from tests.engine.datasets import NoiseDataset
from tests.engine.factories import tiny_bundle


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Hficma = Callable[..., Ended]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, an index of recipes and one of photos; never written to."""
    folder = tmp_path_factory.mktemp("home")
    bundle = tiny_bundle(folder / "bundles")
    dishes = NoiseDataset(30)
    for of in ("recipes", "images"):
        build_index(bundle, dishes, folder / "indexes" / of, of=of)  # type: ignore[arg-type]
    return folder


@pytest.fixture
def hficma(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Hficma:
    """Run the command line as a shell would, in this process."""
    monkeypatch.setenv("HFICMA_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "120")

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["hficma", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo of nothing in particular."""
    path = tmp_path / "photo.jpg"
    NoiseDataset(1).photo(0).save(path)
    return path


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """A JSONL of six recipes with photos, and two records that are no recipes."""
    path = tmp_path / "recipes.jsonl"
    dishes = NoiseDataset(6, first=100)
    lines = []
    for index in range(6):
        record = dishes.recipe(index).to_json()
        Image.Image.save(dishes.photo(index), tmp_path / record["image"])
        lines.append(json.dumps(record))
    lines[3:3] = ["{broken", json.dumps({"id": "x", "ingredients": [1, 2]})]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
