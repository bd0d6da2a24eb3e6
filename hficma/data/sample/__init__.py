"""The built-in synthetic sample: recipes from a grammar, a rendered photo for each."""

from __future__ import annotations

from .dataset import SampleDataset

__all__ = ["SampleDataset"]
