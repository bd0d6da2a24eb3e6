"""Each trial of `make torture` for a few seconds; those of writers, changes and flips stand with
the tests of what they attack."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("trial", ["commands", "edits", "photos", "pickles", "pages"])
def test_a_trial_is_clean(trial: str) -> None:
    """What a kill, an edited word or damaged input may do to a user, at random."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.torture", "--seconds", "3", "--seed", "1", trial],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert f"{trial:9} clean: " in ended.stdout


def test_a_trial_that_finds_something_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that calls everything clean would hide all that the trials find."""
    from tests.torture import __main__ as frame
    from tests.torture import pages

    monkeypatch.setattr(pages, "run", lambda seconds, seed: {"files": 1, "lost": 1})
    monkeypatch.setattr(sys, "argv", ["torture", "--seconds", "1", "pages"])
    assert frame.main() == 1
    monkeypatch.setattr(pages, "run", lambda seconds, seed: {"files": 1, "lost": 0})
    assert frame.main() == 0
