"""Counts steps that are skipped because loss or gradient is not finite, and ends hopeless runs."""

from __future__ import annotations

from collections.abc import Mapping

from hficma.errors import HficmaError

MOST_IN_A_ROW = 25
"""Steps skipped one after the other before a run ends. In fp16 the first few are usual: the scale
begins at 65,536 and is halved by each, so 25 of them have brought it far below 1."""


class TrainingError(HficmaError):
    """A run that cannot go on; its last checkpoint stays."""


class SkippedSteps:
    """Counts a run's steps, taken and skipped.

    Args:
        scaled: the loss is scaled (fp16), so that an epoch of few steps may pass without one that
            is taken while the scale falls.
    """

    def __init__(self, *, scaled: bool) -> None:
        self._scaled = scaled
        self.total = 0
        """Skipped since the run began."""
        self.in_a_row = 0
        """Skipped since the last one that was taken."""
        self.epoch = 0
        """Skipped in this epoch."""
        self.taken = 0
        """Taken in this epoch."""

    def begin_epoch(self) -> None:
        """Begin an epoch."""
        self.epoch = self.taken = 0

    def epoch_state(self) -> dict[str, int]:
        """Return this epoch's counts, as JSON values, for a run that goes on from its middle."""
        return {"epoch": self.epoch, "taken": self.taken, "in_a_row": self.in_a_row}

    def restore_epoch(self, counts: Mapping[str, int]) -> None:
        """Restore what `epoch_state` returned."""
        self.epoch, self.taken = counts["epoch"], counts["taken"]
        self.in_a_row = counts["in_a_row"]

    def count(self, taken: bool) -> None:
        """Count one more step.

        Args:
            taken: whether the weights moved.

        Raises:
            TrainingError: too many were skipped one after the other.
        """
        if taken:
            self.taken += 1
            self.in_a_row = 0
            return
        self.total += 1
        self.epoch += 1
        self.in_a_row += 1
        if self.in_a_row >= MOST_IN_A_ROW:
            raise TrainingError(f"{self.in_a_row} steps one after the other {_REASON}")

    def end_epoch(self, *, last: bool) -> None:
        """End an epoch.

        Args:
            last: no epoch follows in which a falling scale could still help.

        Raises:
            TrainingError: none of its steps was taken.
        """
        if not self.taken and self.epoch and (last or not self._scaled):
            raise TrainingError(f"all {self.epoch} steps of an epoch {_REASON}")

    def __str__(self) -> str:
        """Return this epoch's count for a user."""
        return (
            f"{self.epoch} of {self.epoch + self.taken} steps skipped: loss or gradient not finite"
        )


_REASON = "had a loss or gradient that is no finite number"
