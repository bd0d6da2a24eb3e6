"""Every way in that docs/data.md shows works as shown: its files are made, its commands run."""

from __future__ import annotations

import gzip
import re
import shlex
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hficma.cli.commands.datasets import app
from hficma.data import open_dataset

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
_BLOCK = re.compile(r"(?:^    .*\n|^\n(?=    ))+", re.M)
_NAMED = re.compile(r"`([^`]+)`(?: holds `([^`]+)`)?:\s*$")


def examples() -> list[tuple[dict[tuple[str, str | None], str], list[str], str]]:
    """The files shown before each command, the command's words, and what it prints."""
    text = PAGE.read_text(encoding="utf-8")
    files: dict[tuple[str, str | None], str] = {}
    found = []
    for block in _BLOCK.finditer(text):
        before = _NAMED.search(text[: block.start()].rstrip("\n"))
        lines = [line[4:] for line in block[0].strip("\n").split("\n")]
        command = next(
            (n for n, line in enumerate(lines) if line.startswith("hficma data imp")), None
        )
        if before:
            end = len(lines) if command is None else command
            files[before[1], before[2]] = "\n".join(lines[:end]).rstrip("\n") + "\n"
        if command is not None and files:
            found.append((files, shlex.split(lines[command])[2:], "\n".join(lines[command + 1 :])))
            files = {}
    return found


EXAMPLES = examples()


def test_all_ways_in_are_there() -> None:
    """A section whose form the reader of this page no longer knows would pass untested."""
    assert len(EXAMPLES) == 8


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example[1][1])
def test_an_example(
    example: tuple[dict[tuple[str, str | None], str], list[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A user who copies it gets what the page says."""
    files, command, printed = example
    monkeypatch.chdir(tmp_path)
    for (name, member), content in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if member is None:
            path.write_text(content, encoding="utf-8")
            continue
        data = content.encode()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, gzip.compress(data) if "paprika" in member else data)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    # Photos that an example names are not there; that is said behind.
    assert result.stdout.splitlines()[0] == printed
    dataset = open_dataset(command[command.index("--out") + 1])
    recipe = dataset.recipe(len(dataset) - 1)
    assert recipe.title in ("Pilaf", "Leek tart")
    assert recipe.ingredients
    assert recipe.instructions
