"""What commands print: bars on stderr, answers and tables on stdout."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

import hficma.progress

from ..printable import json_text, printable
from ..terminal import TextConsole

if TYPE_CHECKING:
    from hficma.engine import Answer

stdout = TextConsole()
stderr = TextConsole(stderr=True)

MAX_BAD_SHOWN = 10


def print_json(value: object) -> None:
    """Print one JSON value on stdout."""
    print(json_text(value, indent=1))


def note(text: str) -> None:
    """Print a line that a user should know, on stderr."""
    stderr.print_line(text, style="dim")


def hint(label: str, command: str) -> None:
    """Print a command that may come next, as it can be typed here.

    Where `hficma` is not on the path, as after `make demo`, it is told by where it lies.
    """
    stdout.print_line(f"{label} {typed_program()} {command}")


def typed_program() -> str:
    """Return what to type for `hficma` in this folder: its name, or the path of the one running."""
    program = Path(sys.argv[0])
    if program.name != "hficma" or shutil.which("hficma") == str(program.absolute()):
        return "hficma"
    with contextlib.suppress(ValueError):
        return str(program.absolute().relative_to(Path.cwd()))
    return str(program)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table whose first column is text and whose others are figures."""
    grid = Table(title=printable(title), title_justify="left")
    for position, column in enumerate(columns):
        grid.add_column(column, justify="left" if position == 0 else "right")
    for row in rows:
        grid.add_row(*map(printable, row))
    return grid


class Bars(hficma.progress.Progress):
    """Progress bars on stderr; a stage that ends within a second leaves no trace."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=stderr,
            transient=True,
        )
        self._task: TaskID | None = None
        self._bad = 0
        self._name, self._started = "", 0.0

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()
        self._progress.stop()
        if self._bad > MAX_BAD_SHOWN:
            note(f"... and {self._bad - MAX_BAD_SHOWN} more lines like these")

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage of so many steps."""
        self._finish()
        self._name, self._started = name, time.monotonic()
        self._task = self._progress.add_task(name, total=total)

    def advance(self, count: int = 1) -> None:
        """Count so many steps of the stage as done."""
        if self._task is not None:
            self._progress.advance(self._task, count)

    def at(self, done: int, total: int) -> None:
        """Set the stage to `done` of `total`."""
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total)

    def counting(self, name: str) -> Callable[[int, int], None]:
        """Begin a stage, and return what its worker calls with (done, total)."""
        self.stage(name)
        return self.at

    def bad(self, message: str) -> None:
        """Report a record that was left out; the first few are shown, all are counted."""
        self._bad += 1
        if self._bad <= MAX_BAD_SHOWN:
            note(f"left out: {message}")

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        note(text)

    def epoch(self, record: dict[str, Any]) -> None:
        """Print a line for an epoch that ended."""
        cells: dict[str, Any] = {key: record[key] for key in ("epoch", "seconds") if key in record}
        for direction, figures in record.get("validation", {}).items():
            if isinstance(figures, dict) and "R@10" in figures:
                cells[f"{direction.replace('_', ' ')} R@10"] = _recall(figures)
        note("  ".join(f"{key} {_short(value)}" for key, value in cells.items()))

    @property
    def left_out(self) -> int:
        """Return records left out so far."""
        return self._bad

    def _finish(self) -> None:
        if self._task is None:
            return
        self._progress.remove_task(self._task)
        self._task = None
        seconds = time.monotonic() - self._started
        if seconds >= 1:
            note(f"{self._name}: {seconds:.0f} s")


def print_answer(answer: Answer, *, title: str) -> None:
    """Print a table of hits, and in one line how the search went."""
    from hficma.engine.results import add_hits

    stdout.print_line(title)
    table = Table(box=SIMPLE_HEAD, expand=True, pad_edge=False, show_edge=False)
    add_hits(table, answer, width=stdout.width)
    stdout.print(table)
    stdout.print_line(answer.summary)
    for line in answer.notes:
        note(line)


def _recall(figures: dict[str, Any]) -> str:
    """R@10 with its 95 % interval and the number of queries it is of."""
    from ..metrics import figure_text

    low, high = figures["intervals"]["R@10"]
    return f"{figure_text(figures['R@10'], (low, high))} of {figures['queries']}"


def _short(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
