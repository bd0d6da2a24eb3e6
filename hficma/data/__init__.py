"""Where training pairs come from: own files, the built-in sample, Recipe1M."""

from .dataset import Dataset, open_dataset, positions

__all__ = ["Dataset", "open_dataset", "positions"]
