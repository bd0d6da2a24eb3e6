"""The steps of the GPU's benchmark, one after the other, within the time of the run.

They run in a process of their own (`supervision.py`), since a kernel that fails may take its
process along. What waits for nothing on the host comes first: meanwhile a second process makes the
bundle and the indexes that the later steps search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..common.report import Table
from .computing import COMPILE_SECONDS, Ceilings, PairForms, encoding_table
from .measuring import Cases, Clock, DeviceTimer
from .searching import (
    indexing_table,
    precision_table,
    prefilter_table,
    search_tables,
    streamed_table,
)
from .subject import FULL, PREFILTERS, STORED, TINY, Sizes, Subject

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

WEIGHTS = {
    "ceilings": 4.0, "encode": 12.0, "pairs": 36.0, "exhaustive": 8.0, "search": 42.0,
    "precisions": 14.0, "prefilters": 12.0, "indexing": 18.0, "streamed": 18.0,
    "pairs-compiled": 14.0, "encode-compiled": 16.0,
}  # fmt: skip
"""Shares of the time, in the order in which the steps run: the surest first, and the compiler of
torch, which nothing interrupts, last."""
RECIPES_A_SECOND = 450
"""Of the run, recipes of the searched index: a process makes about 2,000 a second."""
NO_FIGURES = "A step that could not be measured."
"""Note of a table of a step that gives none."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """A run of the benchmark."""

    device: str
    """`cuda:N`, or `cpu`, which takes tiny sizes."""
    seconds: float
    """Of the run, about."""
    steps: tuple[str, ...]
    """Of `WEIGHTS`, in their order there."""
    folder: Path
    """For bundles and indexes."""

    @property
    def sizes(self) -> Sizes:
        """Return how large everything is."""
        return TINY if self.device == "cpu" else FULL

    @property
    def recipes(self) -> int:
        """Return the recipes of the index that is searched."""
        most = self.sizes.recipes
        return min(most, max(most // 20, int(RECIPES_A_SECOND * self.seconds)))

    def subject(self, maker_ended: Event | None = None) -> Subject:
        """Return what is measured; see `Subject`."""
        device = torch.device(self.device)
        return Subject(self.sizes, device, self.folder, self.recipes, maker_ended)


class Progress:
    """Is told what a run does; this one listens to nothing."""

    def begin(self, step: str) -> None:
        """Hear that a step begins."""

    def publish(self, table: Table) -> None:
        """Hear how a table is so far; it is called again as the table grows."""


def run_steps(
    options: RunOptions, seconds: float, progress: Progress, maker_ended: Event | None = None
) -> None:
    """Measure steps one after the other.

    Args:
        options: of the run, `steps` those that are left.
        seconds: that are left.
        progress: is told of every step and every row.
        maker_ended: as of `Subject`.

    Raises:
        DeviceLostError: the GPU cannot be used any more by this process; the step that began last
            is not measured, or not whole.
    """
    subject = options.subject(maker_ended)
    if subject.device.type == "cuda":
        torch.cuda.set_device(subject.device)  # events and launches are of the current one
    clock = Clock(seconds, {step: WEIGHTS[step] for step in options.steps}, progress.publish)
    timer = DeviceTimer(subject.device)
    ceilings = Ceilings(subject, clock, timer)
    forms: list[PairForms] = []

    def pair_forms() -> PairForms:
        if not forms:
            forms.append(PairForms(subject, clock, timer, ceilings))
        return forms[0]

    run: dict[str, Callable[[], Table]] = {
        "ceilings": ceilings.table,
        "encode": lambda: encoding_table(subject, clock, timer),
        "pairs": lambda: pair_forms().table(),
        "exhaustive": lambda: pair_forms().exhaustive(),
        "search": lambda: search_tables(subject, clock),
        "precisions": lambda: precision_table(subject, clock),
        "prefilters": lambda: prefilter_table(subject, clock),
        "indexing": lambda: indexing_table(subject, clock),
        "streamed": lambda: streamed_table(subject, clock),
        "pairs-compiled": lambda: pair_forms().table(compiled=True),
        "encode-compiled": lambda: encoding_table(subject, clock, timer, compiled=True),
    }
    for step in options.steps:
        progress.begin(step)
        cases = Cases(clock, step, step, "step", (), NO_FIGURES)
        # What another process makes is waited for before the step's own time begins.
        cases.attempt(step, lambda step=step: _wait(subject, step))  # type: ignore[misc]
        clock.begin(step)
        if step.endswith("-compiled") and subject.device.type != "cuda":
            cases.skip("torch.compile", "torch's compiler is tried on a GPU alone")
        elif step.endswith("-compiled") and clock.left_in_all() < COMPILE_SECONDS:
            cases.skip("torch.compile", "the time was up")
        else:
            cases.attempt(step, run[step])


def _wait(subject: Subject, step: str) -> None:
    """Make what a step searches, or wait until it is made."""
    if step in ("search", "streamed"):
        _ = subject.index
    elif step == "precisions":
        for level, precision in STORED:
            subject.index_of(subject.sizes.precision_recipes, level=level, precision=precision)
    elif step == "prefilters":
        for kind in PREFILTERS[:1]:
            subject.prefilter_index(kind)
    elif step == "indexing":
        _ = subject.bundle


def steps_after(step: str, steps: Sequence[str]) -> tuple[str, ...]:
    """Return the steps behind one of them."""
    return tuple(steps[list(steps).index(step) + 1 :])
