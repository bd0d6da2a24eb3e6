"""The lowest versions that are tested are those that pyproject.toml states; what is left out is."""

from __future__ import annotations

from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import NEED_TORCH
from tests.packaging.lowest import lowest


def test_the_pins_of_make_lowest_are_the_bounds_of_pyproject() -> None:
    """A bound that is changed or new would not be tested: `make lowest-lock` writes the pins."""
    lines = (Path(__file__).parent / "lowest.txt").read_text(encoding="utf-8").split()
    pins = {canonicalize_name(name): version for name, version in (x.split("==") for x in lines)}
    for name, version in lowest().items():
        assert Version(pins[name]) == Version(version), name


def test_what_is_left_out_without_torch_is_there() -> None:
    """A folder that moves would be collected again, and fail where torch is not installed."""
    for name in NEED_TORCH:
        assert (Path(__file__).parents[1] / name).exists(), name
