"""Tiny bundles of random models, exported within a few seconds."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

STORED = "HFICMA_TEST_BUNDLES"
"""The environment variable that names a folder of bundles, which `store` filled, for tests that
serve them where torch is not installed and so nothing can be exported."""


def tiny_bundle(folder: Path, kind: str = "hf-icma", *, seed: int = 0, **options: object) -> Path:
    """A bundle of a random model; `options` are fields of `ModelConfig`."""
    if place := os.environ.get(STORED):
        stored = Path(place) / name(kind, seed, options)
        assert stored.is_dir(), f"{stored} was not stored: name it in {__file__}"
        return Path(shutil.copytree(stored, folder / f"{kind}-{seed}"))
    pytest.importorskip("torch", reason="exports a bundle; `make lowest` stores them beforehand")
    from hficma.export import export_model
    from tests.model.factories import make_model

    model = make_model(kind, seed=seed, **options)
    return export_model(model, folder / f"{kind}-{seed}", runtimes=("onnxruntime",))


def store(place: Path) -> None:
    """Export the bundles that tests of serving and of the command line take."""
    shutil.rmtree(place, ignore_errors=True)
    for kind, seed, options in (
        ("hf-icma", 0, {}),
        ("hf-icma", 5, {}),
        ("hf-icma", 0, {"sentence": "gru", "sentence_dim": 7}),
        ("adamine", 0, {}),
    ):
        exported = tiny_bundle(place / "exporting", kind, seed=seed, **options)
        exported.rename(place / name(kind, seed, options))
    (place / "exporting").rmdir()


def name(kind: str, seed: int, options: dict[str, object]) -> str:
    """The folder of a stored bundle."""
    return "-".join([kind, str(seed), *(f"{key}={options[key]}" for key in sorted(options))])


if __name__ == "__main__":
    store(Path(sys.argv[1]))
