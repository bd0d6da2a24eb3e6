"""Tiny bundles of random models, exported within a few seconds."""

from __future__ import annotations

from pathlib import Path

from hficma.export import export_model
from tests.model.factories import make_model


def tiny_bundle(folder: Path, kind: str = "hf-icma", *, seed: int = 0, **options: object) -> Path:
    """A bundle of a random model; `options` are fields of `ModelConfig`."""
    model = make_model(kind, seed=seed, **options)
    return export_model(model, folder / f"{kind}-{seed}", runtimes=("onnxruntime",))
