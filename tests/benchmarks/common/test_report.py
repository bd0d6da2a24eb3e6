"""Reports are read on terminals, in files and on pages."""

from __future__ import annotations

import io
import re

import pytest

from hficma.benchmarks.common.report import markdown_table, print_markdown
from hficma.terminal import TextConsole

HEADER = ["exact ranking of all items by", *(f"figure {n}, in units" for n in range(12))]
ROWS = [
    ["a prefilter/fp32, 200 candidates", *(f"{n},234.5 [67, 89]" for n in range(12))],
    ["short", *(f"{n}.5" for n in range(12))],
]
TEXT = "\n".join(["# Title", "", "* A note.", "", *markdown_table(HEADER, ROWS)])


def printed(text: str, *, width: int, terminal: bool) -> str:
    """What a console of a width shows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NO_COLOR", raising=False)
        patch.setenv("FORCE_COLOR", "1" if terminal else "")
        console = TextConsole(file=io.StringIO(), width=width)
        assert console.is_terminal == terminal
        with console.capture() as capture:
            print_markdown(text, console)
    return re.sub(r"\x1b\[[0-9;]*m", "", capture.get())


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_a_terminal_and_lose_nothing(width: int) -> None:
    """A broken line puts figures below others' labels."""
    shown = printed(TEXT, width=width, terminal=True)
    assert max(map(len, shown.splitlines())) <= width
    for row in ROWS:
        for figure in row[1:]:
            assert figure in shown
    assert shown.count("a prefilter/fp32,") == shown.count("short") > 1


def test_a_file_or_a_pipe_gets_markdown() -> None:
    """It is pasted into a page."""
    assert printed(TEXT, width=80, terminal=False).rstrip() == TEXT
