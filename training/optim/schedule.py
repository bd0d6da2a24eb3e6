"""When the trunk is trained, and the learning rate."""

from __future__ import annotations

import math
from typing import Any

from hficma.model import Model

from ..config.options import OptimizerOptions, TrunkOptions
from .optimizer import Parameters

LATER_PATIENCE = 4
"""Validations without a gain before the second and later turns of `alternate`, as published."""


class TrunkSchedule:
    """Which side is trained: the trunk, the rest, or both.

    `alternate` begins with the rest; whenever `patience` validations bring no new best, the other
    side takes its turn (HF-ICMA; its tenth of the learning rate at every 25th epoch, if a turn
    happens to fall there, is left out). A trunk that is not trained keeps its BatchNorm
    statistics too: the published code lets them drift.
    """

    def __init__(self, options: TrunkOptions) -> None:
        self._options = options
        self._best = -math.inf
        self._idle = 0
        self._patience = options.patience
        self.trunk = options.schedule == "tuned"
        self.rest = True
        self.touched = False

    def begin(self, epoch: int) -> None:
        """An epoch begins, counted from 1."""
        if self._options.schedule == "freeze-then-tune":
            self.trunk = epoch > self._options.switch_epoch
        self.touched |= self.trunk

    def observe(self, score: float) -> None:
        """A validation gave this score; larger is better."""
        if score > self._best:
            self._best, self._idle = score, 0
            return
        self._idle += 1
        if self._options.schedule == "alternate" and self._idle >= self._patience:
            self.trunk, self.rest = self.rest, self.trunk
            self._idle, self._patience = 0, LATER_PATIENCE

    def apply(self, model: Model, parts: Parameters) -> None:
        """Put the model into training mode, except for what is not trained."""
        model.train()
        model.trunk.train(self.trunk)
        for parameter in parts.trunk:
            parameter.requires_grad_(self.trunk)
        for parameter in parts.rest:
            parameter.requires_grad_(self.rest)

    def state(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {
            "best": self._best if math.isfinite(self._best) else None,
            "idle": self._idle,
            "patience": self._patience,
            "trunk": self.trunk,
            "rest": self.rest,
            "touched": self.touched,
        }

    def load_state(self, record: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._best = -math.inf if record["best"] is None else record["best"]
        self._idle, self._patience = record["idle"], record["patience"]
        self.trunk, self.rest = record["trunk"], record["rest"]
        self.touched = record["touched"]


def learning_rate(options: OptimizerOptions, progress: float, epochs: int) -> float:
    """Share of the learning rate after `progress` epochs (a fraction within an epoch).

    Linear from 0 over `warmup` epochs, then constant or half a cosine down to 0.
    """
    if progress < options.warmup:
        return progress / options.warmup
    if options.decay == "none":
        return 1.0
    done = (progress - options.warmup) / max(epochs - options.warmup, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
