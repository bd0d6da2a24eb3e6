"""What a wheel holds: every package, under one name."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("hficma", "training", "export", "engine", "benchmarks")


def test_every_package_is_in_the_wheel_under_one_name() -> None:
    """A folder left out works from a checkout and fails after `pip install`."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = settings["tool"]["setuptools"]["packages"]
    found = set()
    for folder in FOLDERS:
        prefix = "" if folder == "hficma" else "hficma."
        for file in (ROOT / folder).rglob("__init__.py"):
            found.add(prefix + ".".join(file.parent.relative_to(ROOT).parts))
    assert set(packages) == found
    assert {name.split(".")[0] for name in packages} == {"hficma"}


def test_no_folder_is_imported_by_its_bare_name() -> None:
    """`import engine` works in the repository and nowhere else."""
    bare = [f"{start} {folder}" for start in ("import", "from") for folder in FOLDERS[1:]]
    for folder in (*FOLDERS, "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            for line in file.read_text(encoding="utf-8").splitlines():
                words = line.split()
                assert len(words) < 2 or f"{words[0]} {words[1].split('.')[0]}" not in bare, file
