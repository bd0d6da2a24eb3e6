"""Print the lowest versions that pyproject.toml allows of what serving and data need.

    python -m tests.packaging.lowest > pins.txt

`make lowest` tests them. lowest.txt beside this file has them with all that they need in turn, so
that a new release elsewhere cannot fail the test; `make lowest-lock` writes it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
EXTRAS = ("data", "cpu", "report")
TRAIN = ("gensim", "onnx", "safetensors", "scipy")
"""Packages of [train] that tests of serving and data use, and that work without torch."""


def lowest() -> dict[str, str]:
    """Return the lowest version of each direct dependency, by its canonical name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = list(project["dependencies"])
    for extra in EXTRAS:
        lines += extras[extra]
    lines += [line for line in extras["train"] if Requirement(line).name in TRAIN]
    versions = {}
    for requirement in map(Requirement, lines):
        bounds = [bound.version for bound in requirement.specifier if bound.operator == ">="]
        if len(bounds) != 1:
            raise SystemExit(f"pyproject.toml: {requirement}: states no lowest version")
        versions[canonicalize_name(requirement.name)] = bounds[0]
    return versions


if __name__ == "__main__":
    for name, version in lowest().items():
        print(f"{name}=={version}")
