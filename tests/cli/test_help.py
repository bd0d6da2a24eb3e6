"""Every command explains itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hficma import __version__
from tests.cli.conftest import Hficma

COMMANDS = [
    "train", "eval", "export", "index", "search", "bench", "demo", "serve", "doctor", "compare",
    "extract", "convert", "index add", "index remove", "index compact", "index info",
    "index verify", "index publish", "index fetch", "data import", "data show",
    "vectors words", "vectors sentences", "vectors encoder",
    "bench pair_scores", "bench training_step", "bench training", "bench engine", "bench branches",
    "bench text_quality", "bench quality", "bench sample_hardness", "bench readme",
    "bench contact-sheet", "bench serve", "bench gpu_kernels", "bench screening",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(hficma: Hficma, command: str) -> None:
    """A user who has forgotten the options looks here first."""
    if command.startswith("bench "):
        pytest.importorskip("torch", reason="benchmarks measure the model")
    ended = hficma(*command.split(), "--help")
    assert ended.code == 0
    assert "Example" in ended.out


@pytest.mark.parametrize("group", ["", "index", "data", "vectors", "bench"])
def test_every_group_lists_its_commands_in_one_style(hficma: Hficma, group: str) -> None:
    """A description cut to "what..." tells nothing; boxes in some helps look like two programs."""
    ended = hficma(*group.split(), "--help")
    assert "Commands:" in ended.out
    assert "..." not in ended.out.partition("Commands:")[2]
    assert "\u2500" not in ended.out


def test_the_options_of_a_search_stand_in_groups(hficma: Hficma) -> None:
    """Twenty-one options in one list are not read."""
    shown = hficma("search", "--help").out
    headings = [line for line in shown.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings == ["Query (one of):", "Filter:", "Answer:", "Engine:", "Cluster:", "Options:"]


def test_the_version_is_told(hficma: Hficma) -> None:
    """The first line of every report of a fault."""
    assert hficma("--version").out == f"hficma {__version__}\n"


def test_the_list_names_every_command(hficma: Hficma) -> None:
    """Commands are found by name in other modules; one misspelt would vanish."""
    listed = hficma("--help").out
    for command in {name.split()[0] for name in COMMANDS}:
        assert f"  {command} " in listed
    assert "Not available" not in listed


def test_the_list_of_commands_imports_no_torch() -> None:
    """A shell that only asks what there is would wait for seconds."""
    code = (
        "import sys, hficma.cli; sys.argv = ['hficma', '--help']\n"
        "try: hficma.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'faiss', 'onnxruntime', 'gensim', 'matplotlib'} & sys.modules.keys()\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_doctor_tells_what_is_ready(hficma: Hficma) -> None:
    """Its first line of use: what works here."""
    ended = hficma("doctor")
    assert ended.code == 0
    assert "ready" in ended.out
    assert "onnxruntime" in ended.out


@pytest.mark.torch
def test_an_unknown_benchmark_lists_the_known_ones(hficma: Hficma) -> None:
    """Their names are in no list that a user would have read."""
    assert hficma("bench", "nonsense").code == 2
    ended = hficma("bench", "--setup", "5")
    assert ended.code == 2
    assert "--setup 5" in ended.err
    assert "10,50" in hficma("bench", "--candidates", "x").err
