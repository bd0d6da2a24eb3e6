"""What a command says to type next can be typed where it was said."""

from __future__ import annotations

from pathlib import Path

import pytest

from hficma.cli.console import typed_program


def test_a_program_off_the_path_is_named_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `make demo` a bare `hficma` would be "command not found"."""
    program = tmp_path / ".venv" / "bin" / "hficma"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr("sys.argv", [str(program)])
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    assert typed_program() == ".venv/bin/hficma"
    (tmp_path.parent / "elsewhere").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path.parent / "elsewhere")
    assert typed_program() == str(program)


def test_a_program_on_the_path_is_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path where the name is enough looks like a mistake."""
    program = tmp_path / "hficma"
    program.touch(mode=0o755)
    monkeypatch.setattr("sys.argv", [str(program)])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert typed_program() == "hficma"
