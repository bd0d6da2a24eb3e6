"""Weights and options of a run or bundle from outside: one line, and no memory before it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hficma.artifacts.manifest import sha256
from hficma.errors import ArtifactError
from hficma.export import export_model
from hficma.model import load_model
from tests.model.factories import make_model

MODEL: dict[str, Callable[[dict], object]] = {
    "width of another": lambda m: m.update(width=16),
    "width of 2⁴⁰": lambda m: m.update(width=2**40, heads=1),
    "width in words": lambda m: m.update(width="8"),
    "word_dim of 2⁴⁰": lambda m: m.update(word_dim=2**40),
    "no text": lambda m: m.pop("text"),
    "text is a list": lambda m: m.update(text=[]),
    "an option that there is not": lambda m: m.update(other=1),
    "heads that do not divide": lambda m: m.update(heads=3),
    "a trunk that there is not": lambda m: m.update(backbone="../tiny"),
    "layers of another trunk": lambda m: m.update(backbone="mobilenet_v2"),
    "another sentence encoder": lambda m: m.update(sentence="gru"),
    "no heads": lambda m: m.update(heads=0),
    "a weight that is none": lambda m: m.update(global_weight=None),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("load")
    return export_model(make_model("adamine"), folder / "b", runtimes=())


def edited(bundle: Path, folder: Path, change: Callable[[Path, dict], object]) -> Path:
    """A copy of a bundle, changed by someone who brings the hashes in line."""
    copied = Path(shutil.copytree(bundle, folder / "bundle"))
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest.pop("sha256", None)
    change(copied, manifest["facts"])
    manifest["files"] = {name: sha256(copied / name) for name in manifest["files"]}
    (copied / "manifest.json").write_text(json.dumps(manifest))
    return copied


def refused(path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        load_model(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("kind", MODEL)
def test_options_that_are_no_models_are_one_line(kind: str, bundle: Path, tmp_path: Path) -> None:
    """A TypeError, or terabytes of layers, before the weights are looked at."""
    refused(edited(bundle, tmp_path, lambda _, facts: MODEL[kind](facts["model"])))


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, (2**60).to_bytes(8, "little") + b"{}"])
def test_weights_that_are_none_are_one_line(content: bytes, bundle: Path, tmp_path: Path) -> None:
    """A SafetensorError would end in a traceback."""

    def replace(copied: Path, _: dict) -> None:
        (copied / "model.safetensors").write_bytes(content)

    refused(edited(bundle, tmp_path, replace))
