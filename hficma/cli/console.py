"""Prints for the commands: progress and notes on stderr, answers and tables on stdout."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.box import SIMPLE_HEAD
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

import hficma.progress

from ..printable import json_text, printable
from ..terminal import TextConsole

if TYPE_CHECKING:
    from hficma.engine import Answer

stdout = TextConsole()
"""Answers: what a program that calls `hficma` may read."""
stderr = TextConsole(stderr=True)
"""Notes and progress, which such a program would stumble over."""

MAX_BAD_SHOWN = 10
"""Records left out that are named one by one; the rest is counted."""


def print_json(value: object) -> None:
    """Print one JSON value on stdout."""
    print(json_text(value, indent=1))


def note(text: str) -> None:
    """Print a line that a user should know of, on stderr."""
    stderr.print_prose(text, style="dim")


def hint(label: str, command: str) -> None:
    """Print a command that may come next, so that it can be copied and run.

    Args:
        label: before it, such as "next:".
        command: without the program's name, which is a path where `hficma` is not on the shell's,
            as after `make demo`.
    """
    stdout.print_line(f"{label} {typed_program()} {command}")


def typed_program() -> str:
    """Return how to call this program from this folder: `hficma`, or its path."""
    program = Path(sys.argv[0])
    if program.name != "hficma" or shutil.which("hficma") == str(program.absolute()):
        return "hficma"
    with contextlib.suppress(ValueError):
        return str(program.absolute().relative_to(Path.cwd()))
    return str(program)


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    justify: Literal["left", "right"] = "right",
) -> Table:
    """Return a table in the style of an answer's.

    Args:
        title: above the table.
        columns: their heads.
        rows: a cell for each column.
        justify: of all columns but the first: numbers right, words left.
    """
    grid = Table(
        title=printable(title),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
    )
    for position, column in enumerate(columns):
        grid.add_column(column, justify="left" if position == 0 else justify)
    for row in rows:
        grid.add_row(*map(printable, row))
    return grid


class Bars(hficma.progress.Progress):
    """Progress bars on stderr: one for the running stage, or several for the stages of one job.

    Bars are drawn on a terminal only, and erased at the end. A stage that took a second or more
    leaves a line with its time when it is done; one that an error or Ctrl-C cut short leaves none,
    or its line would read as a success.

    Args:
        console: where to; standard error by default.
    """

    def __init__(self, console: TextConsole | None = None) -> None:
        self._console = stderr if console is None else console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _CountColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            # Rich ends its bars with an empty line where it could not draw them.
            disable=not self._console.is_terminal,
        )
        self._running: TaskID | None = None
        self._bad = 0

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._finish()
        self._progress.stop()
        if self._bad > MAX_BAD_SHOWN:
            self.note(f"... and {self._bad - MAX_BAD_SHOWN} more lines like these")

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage; the one before it is done.

        Args:
            name: beside its bar.
            total: its steps; None where they are not known.
        """
        self._finish()
        self._running = self._progress.add_task(name, total=total)

    def advance(self, count: int = 1) -> None:
        """Count so many steps of the stage as done."""
        if self._running is not None:
            self._progress.advance(self._running, count)

    def at(self, done: int, total: int) -> None:
        """Set the stage to `done` of `total` steps; a total of 0 is not known."""
        if self._running is not None:
            self._progress.update(self._running, completed=done, total=total or None)

    def counting(self, name: str) -> Callable[[int, int], None]:
        """Begin a stage, and return what its worker calls with (done, total)."""
        self.stage(name)
        return self.at

    def counting_stages(self, *names: str) -> Callable[[str, int, int], None]:
        """Show the stages of one job at once, in their order.

        Returns:
            What its worker calls with (stage, done, total); a stage's first report ends the stage
            before it.
        """
        self._finish()
        # A stage's clock runs from where the one before it ends: the first one's from now on.
        tasks = {name: self._progress.add_task(name, start=False, total=None) for name in names}
        self._start(tasks[names[0]])

        def report(name: str, done: int, total: int) -> None:
            if self._running != tasks[name]:
                self._start(tasks[name])
            self.at(done, total)

        return report

    def bad(self, message: str) -> None:
        """Report a record that was left out; the first few are shown, all are counted."""
        self._bad += 1
        if self._bad <= MAX_BAD_SHOWN:
            self.note(f"left out: {message}")

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print_prose(text, style="dim")

    def epoch(self, record: dict[str, Any]) -> None:
        """Print a line for an epoch that ended.

        Args:
            record: the epoch's line of the run's log.
        """
        # The epoch's line has its seconds: a second line with the stage's own would only repeat it.
        self._finish(timed=False)
        line = _epoch_line(record, with_intervals=True)
        # A terminal would break a longer line anywhere; the log of the run has the intervals.
        if self._console.is_terminal and len(line) > self._console.width:
            line = _epoch_line(record, with_intervals=False)
        self.note(line)

    @property
    def left_out(self) -> int:
        """Return the number of records left out so far."""
        return self._bad

    def _start(self, task: TaskID) -> None:
        """Let a stage run, and the one before it be done."""
        self._complete()
        self._running = task
        self._progress.start_task(task)

    def _complete(self) -> None:
        """Fill the running stage's bar and stop its clock."""
        if self._running is None:
            return
        (task,) = (task for task in self._progress.tasks if task.id == self._running)
        # What was counted is all there was, whether or not the total was known.
        self._progress.update(task.id, total=task.completed)
        self._progress.stop_task(task.id)
        self._running = None

    def _finish(self, *, timed: bool = True) -> None:
        """End all stages: print the time of those that took long, and take their bars away."""
        self._complete()
        for task in self._progress.tasks:
            self._progress.remove_task(task.id)
            if timed and (seconds := task.elapsed or 0.0) >= 1:
                self.note(f"{task.description}: {seconds:.0f} s")


class _CountColumn(MofNCompleteColumn):
    """Counts as "250/1000"; as "250" where the total is not known, and nothing before the first."""

    def render(self, task: Task) -> Text:
        if task.total:
            return super().render(task)
        return Text(f"{task.completed:.0f}" if task.completed else "", style="progress.download")


def print_answer(answer: Answer, *, title: str) -> None:
    """Print a table of hits, a summary of the search in one line, and its notes.

    Args:
        answer: with at least one hit.
        title: above the table: the query.
    """
    from hficma.engine.results import add_hits

    stdout.print_line(title)
    table = Table(box=SIMPLE_HEAD, expand=True, pad_edge=False, show_edge=False)
    add_hits(table, answer, width=stdout.width)
    stdout.print(table)
    for line in answer.lines:
        stdout.print_line(line)
    for line in answer.notes:
        note(line)


def _epoch_line(record: dict[str, Any], *, with_intervals: bool) -> str:
    """Write an epoch as one line: loss, recall, learning rate, seconds.

    Args:
        record: the epoch's line of the run's log.
        with_intervals: give the 95 % interval of each recall.
    """
    loss = record["train"].get("loss")
    cells = [
        f"epoch {record['epoch']}",
        "no step was taken" if loss is None else f"loss {loss:.4g}",
        _recall(record.get("validation", {}), with_intervals=with_intervals),
    ]
    if "lr" in record:
        cells.append(f"lr {record['lr']:.2g}")
    return "  ".join([*cells, f"{record['seconds']:.0f} s"])


def _recall(validation: dict[str, Any], *, with_intervals: bool) -> str:
    """Write R@10 by each kind of query and the number of queries it is of, or that there is none.

    Args:
        validation: figures by direction; empty where the epoch was not validated.
        with_intervals: give the 95 % interval of each.
    """
    from ..metrics import DIRECTIONS, figure_text

    if not validation:
        return "not validated"
    words = ["R@10"]
    for direction, query in zip(DIRECTIONS, ("photo", "recipe"), strict=True):
        low, high = validation[direction]["intervals"]["R@10"]
        value = validation[direction]["R@10"]
        words += [query, figure_text(value, (low, high) if with_intervals else None)]
    return " ".join([*words, "of", str(validation[DIRECTIONS[0]]["queries"])])
