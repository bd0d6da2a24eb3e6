"""Watches over the processes of the GPU's benchmark: one that measures, one that makes indexes.

    this process     reads what is measured, writes the file of results, ends the run in time
    measuring        the steps, on the device; begun anew behind a step that took it down
    making           the bundle and the indexes, on the host, while the first steps run

A kernel that reads past its memory ends the use of the GPU by its process, a library that crashes
ends the process, and a compiler may not end at all: none of them takes the other figures along.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ..common.report import Row, Table
from .measuring import NOT_MEASURED, DeviceLostError
from .steps import NO_FIGURES, Progress, RunOptions, run_steps, steps_after

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from multiprocessing.synchronize import Event

START_METHOD = "spawn"
"""Not forked: a child must not share the state of CUDA or of threads."""
GRACE_SECONDS = 12.0
"""A step that goes on for so long behind the end of the run is ended."""
DEVICE_LOST = 3
"""Exit code of a measuring process that cannot use its GPU any more."""
BETWEEN_LOOKS = 0.5
"""Seconds."""


class Began(NamedTuple):
    """A step begins."""

    step: str


class OnDevice(NamedTuple):
    """The measuring process sees its device."""

    name: str | None
    """Of the GPU; None on the processors."""


Message: TypeAlias = Began | OnDevice | Table


class _Sender(Progress):
    """Sends what a run does to the supervising process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begin(self, step: str) -> None:
        self._connection.send(Began(step))

    def publish(self, table: Table) -> None:
        self._connection.send(table)


def measure_in_process(
    options: RunOptions, end: float, connection: Connection, maker_ended: Event
) -> None:
    """Measure the steps of a run, in a process of its own.

    Args:
        options: with the steps that are left.
        end: of the run, on the clock `time.monotonic`.
        connection: where messages go.
        maker_ended: as of `Subject`.
    """
    import torch

    name = None if options.device == "cpu" else torch.cuda.get_device_name(options.device)
    connection.send(OnDevice(name))
    try:
        run_steps(options, end - time.monotonic(), _Sender(connection), maker_ended)
    except DeviceLostError as error:
        raise SystemExit(DEVICE_LOST) from error


def make_in_process(options: RunOptions) -> None:
    """Make the bundle and all indexes of a run, in a process of its own."""
    options.subject().make_all()


class Supervisor:
    """Runs the steps, whatever becomes of the processes that measure them.

    Args:
        options: of the run.
        on_change: is called when there is something new to write.
        target: what the measuring process runs.
        maker: what the making process runs.
    """

    def __init__(
        self,
        options: RunOptions,
        on_change: Callable[[Supervisor], object],
        *,
        target: Callable[[RunOptions, float, Connection, Event], None] = measure_in_process,
        maker: Callable[[RunOptions], None] = make_in_process,
    ) -> None:
        self.options = options
        self.device_name: str | None = None
        """Of the GPU."""
        self.tables: dict[str, Table] = {}
        """Measured so far, by key."""
        self.step: str | None = None
        """That began last."""
        self._on_change = on_change
        self._target, self._maker = target, maker
        self._context: Any = multiprocessing.get_context(START_METHOD)

    def run(self) -> None:
        """Run all steps; return when they are done or the time is up."""
        end = time.monotonic() + self.options.seconds
        maker_ended = self._context.Event()
        maker = self._context.Process(target=self._maker, args=(self.options,), daemon=True)
        maker.start()
        steps = self.options.steps
        try:
            while steps:
                why = self._run_once(replace(self.options, steps=steps), end, maker, maker_ended)
                if why is None:
                    return
                # A process that came to no step would come to none again.
                failed = self.step if self.step in steps else steps[0]
                over = self.step not in steps or time.monotonic() > end
                rest = steps_after(failed, steps)
                for step in (failed, *(rest if over else ())):
                    self._add_missing(step, why)
                steps = () if over else rest
        finally:
            _end(maker)

    def _run_once(
        self, options: RunOptions, end: float, maker: BaseProcess, maker_ended: Event
    ) -> str | None:
        """Run steps in a process until it ends; return why it did not do all, or None."""
        receiving, sending = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=self._target, args=(options, end, sending, maker_ended), daemon=True
        )
        process.start()
        sending.close()
        try:
            while True:
                if not maker.is_alive():
                    maker_ended.set()
                if time.monotonic() > end + GRACE_SECONDS:
                    return "the time was up"
                if not receiving.poll(BETWEEN_LOOKS):
                    continue
                try:
                    message: Message = receiving.recv()
                except EOFError:  # its end is closed: it ended
                    break
                self._take(message)
        finally:
            process.join(0.0 if time.monotonic() > end + GRACE_SECONDS else 10.0)
            code = process.exitcode
            _end(process)
            receiving.close()
        if code == DEVICE_LOST:
            return "the GPU could not be used any more"
        return None if code == 0 else f"its process ended with the code {code}"

    def _take(self, message: Message) -> None:
        """Take a message in."""
        if isinstance(message, OnDevice):
            self.device_name = message.name
        elif isinstance(message, Began):
            self.step = message.step
        else:
            self.tables[message.key] = message
        self._on_change(self)

    def _add_missing(self, step: str, why: str) -> None:
        """Add a row that says why a step has no figures, or not all."""
        row = Row(name=f"{step}: {NOT_MEASURED} ({why})", cells={})
        table = self.tables.get(step)
        if table is None:
            table = Table(
                key=step, title=step, first="step", columns=(), rows=(), note=NO_FIGURES
            )  # fmt: skip
        self.tables[step] = replace(table, rows=(*table.rows, row))
        self._on_change(self)


def _end(process: BaseProcess) -> None:
    """End a process that has not ended by itself."""
    if process.is_alive():
        process.terminate()
        process.join(2.0)
    if process.is_alive():
        process.kill()
        process.join()
