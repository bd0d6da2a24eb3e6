"""In a checkout, `engine`, `export`, `training` and `benchmarks` lie beside `hficma`, not in it.

A wheel has them inside, and Python needs no help. Python started in a checkout finds `./hficma`
before anything that is installed, and would find its sub-packages nowhere, or worse, in an install
of another version. So the package of a checkout takes them from its own checkout. Putting the
checkout into `hficma.__path__` would do that too, but make `hficma.tests` and `hficma.hficma`
importable.
"""

from __future__ import annotations

import os.path
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_FOLDERS = ("engine", "export", "training", "benchmarks")


class _Siblings:
    """Finds the folders beside a folder `hficma` as its sub-packages (an entry of `meta_path`)."""

    def __init__(self, package: str, folder: str) -> None:
        self._names = {f"{package}.{name}" for name in _FOLDERS}
        self._folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where `name` is found; None for any other module, or another `hficma`'s."""
        if name not in self._names or path is None or self._folder not in path:
            return None
        return PathFinder.find_spec(name, [os.path.dirname(self._folder)], target)


def is_checkout(folder: str) -> bool:
    """Return whether the package in `folder` lacks the sub-packages that a wheel has in it."""
    return not os.path.isdir(os.path.join(folder, _FOLDERS[0]))


def find_siblings(package: str, folder: str) -> None:
    """Make the folders beside `folder` importable as sub-packages of `package`."""
    sys.meta_path.insert(0, _Siblings(package, folder))
