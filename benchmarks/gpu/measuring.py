"""How the GPU's benchmark measures: within a time, on the device's own clock, and never in vain.

What a machine lacks becomes a row that says so: the benchmark of a card is run on machines that
nobody prepared, and a figure that is missing must not take the others with it.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch

from hficma.limits import reason

from ..common.report import Column, Figure, Row, Table

FEWEST, MOST = 3, 300
"""Repetitions of a case."""
CASE_SECONDS = 0.6
"""Seconds of a case at most: a median of more repetitions is no better."""

T = TypeVar("T")

NOT_MEASURED = "not measured"
"""In the name of a row without figures, before the reason."""

Cells = Mapping[str, float | Figure | None]
"""A case's figures, by the key of their column."""

_log = logging.getLogger("hficma")


class DeviceLostError(Exception):
    """A fault after which this process cannot use its GPU any more: every later call fails."""


class Clock:
    """The time that a run may take, shared out among steps by weight.

    Args:
        seconds: of the whole run.
        weights: of the steps, in their order.
        publish: is given every table as it grows, so that a step that never ends loses none of
            the rows before.
    """

    def __init__(
        self,
        seconds: float,
        weights: Mapping[str, float],
        publish: Callable[[Table], None] | None = None,
    ) -> None:
        self._end = time.monotonic() + seconds
        self._weights = dict(weights)
        self._step_end = self._end
        self._publish = publish

    def publish(self, table: Table) -> None:
        """Hand out a table as it is so far."""
        if self._publish is not None:
            self._publish(table)

    def begin(self, step: str) -> None:
        """Begin a step: it has its share of what is left, by its weight among those to come."""
        share = self._weights[step] / sum(self._weights.values())
        del self._weights[step]
        self._step_end = time.monotonic() + share * self.left_in_all()

    def left(self) -> float:
        """Return the seconds that this step has left; below 0 where it took too long."""
        return self._step_end - time.monotonic()

    def left_in_all(self) -> float:
        """Return the seconds that the run has left."""
        return self._end - time.monotonic()


class DeviceTimer:
    """Times tasks on a device: by its events on a GPU, where a launch returns before its end.

    Args:
        device: of torch's.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wait(self) -> None:
        """Wait until the device has done all that was launched."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, task: Callable[[], object], limit: float) -> list[float]:
        """Return the seconds of repetitions of a task, after two that warm it up.

        Args:
            task: launches work on the device.
            limit: seconds for all repetitions, about.
        """
        for _ in range(2):
            task()
        self.wait()
        samples: list[float] = []
        end = time.monotonic() + min(max(limit, 0.0), CASE_SECONDS)
        while len(samples) < FEWEST or (time.monotonic() < end and len(samples) < MOST):
            samples.append(self._one(task))
        return samples

    def _one(self, task: Callable[[], object]) -> float:
        """Return the seconds of one repetition."""
        if self.device.type != "cuda":
            began = time.perf_counter()
            task()
            return time.perf_counter() - began
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        task()
        stop.record()
        stop.synchronize()
        return float(start.elapsed_time(stop)) / 1000


def median(samples: list[float], scale: float = 1.0) -> Figure:
    """Return the median of samples in a unit, with half of them spread around it as its noise.

    Args:
        samples: in seconds.
        scale: units a second, such as 1000 for milliseconds.
    """
    low, middle, high = np.percentile(samples, (25, 50, 75))
    return Figure(scale * float(middle), noise=float((high - low) / middle) if middle else 0.0)


class Cases:
    """The rows of one table; a case that cannot be measured is a row that says why.

    Args:
        clock: of the run.
        key: of the table.
        title: the question.
        first: what the rows are.
        columns: of the figures.
        note: how to read it.
    """

    def __init__(
        self, clock: Clock, key: str, title: str, first: str, columns: tuple[Column, ...], note: str
    ) -> None:
        self._clock = clock
        self._table: dict[str, Any] = {
            "key": key, "title": title, "first": first, "columns": columns, "note": note,
        }  # fmt: skip
        self._rows: list[Row] = []

    def measure(self, name: str, case: Callable[[], Cells]) -> Cells | None:
        """Add a row of what a case gives, or of why it gives nothing.

        Args:
            name: of the row.
            case: measures.

        Returns:
            its figures; None where there are none.

        Raises:
            DeviceLostError: the GPU cannot be used any more.
        """
        cells = self.attempt(name, case)
        if cells is not None:
            figures = {
                key: Figure(value) if isinstance(value, float) else value
                for key, value in cells.items()
            }
            self._add(Row(name=name, cells=figures))
        return cells

    def attempt(self, name: str, task: Callable[[], T]) -> T | None:
        """Return what a task gives; where it fails, or there is no time, add a row that says why.

        Args:
            name: of the row.
            task: adds rows of its own, if any.

        Raises:
            DeviceLostError: the GPU cannot be used any more.
        """
        # The first of a table is measured if there is any time at all.
        if self._clock.left_in_all() <= 0 or (self._rows and self._clock.left() <= 0):
            self.skip(name, "the time was up")
            return None
        try:
            return task()
        except DeviceLostError:
            raise
        # Drivers, compilers and libraries raise what they like, and the next case may do all the
        # same: Ctrl-C alone ends the run.
        except Exception as error:
            _log.info("%s: %s", name, error)
            self.skip(name, f"{type(error).__name__}: {reason(error)}"[:160])
            return None
        finally:
            _clear_device()

    def skip(self, name: str, why: str) -> None:
        """Add a row that says why it has no figures."""
        self._add(Row(name=f"{name}: {NOT_MEASURED} ({why})", cells={}))

    def _add(self, row: Row) -> None:
        """Add a row, and hand the table out."""
        self._rows.append(row)
        self._clock.publish(self.table())

    def table(self) -> Table:
        """Return the table as it is so far."""
        return Table(**self._table, rows=tuple(self._rows))


def _clear_device() -> None:
    """Give back what a case left in the GPU's memory.

    Raises:
        DeviceLostError: a kernel failed in a way that ends the use of the GPU.
    """
    gc.collect()
    if not torch.cuda.is_initialized():
        return
    try:
        # A fault of a kernel is told at the next wait, and from then on at every call.
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except Exception as error:
        raise DeviceLostError(f"{type(error).__name__}: {reason(error)}"[:160]) from error
