"""Tiny bundles of random models, exported within a few seconds."""

from __future__ import annotations

from pathlib import Path

from hficma.export import export_model
from tests.model.factories import make_model


def tiny_bundle(folder: Path, kind: str = "hf-icma", *, seed: int = 0, **options: object) -> Path:
    """A bundle of a random model; `options` are fields of `ModelConfig`."""
    return export_model(make_model(kind, seed=seed, **options), folder / f"{kind}-{seed}")
