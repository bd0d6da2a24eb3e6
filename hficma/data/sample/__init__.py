"""The built-in synthetic sample: recipes from a grammar, a rendered photo for each.

It stands in for data that cannot be shipped: everything of the project can be tried, tested and
timed on it, in any size, the same on every machine. How it is made, file by file: `pantry` and
`dishes` are its tables, `grammar` draws a recipe from them, `appearance` says how things look, and
`render` draws the photo out of `pieces` that lie by `layout` in `vessels`.
"""

from __future__ import annotations

from .dataset import SampleDataset

__all__ = ["SampleDataset"]
