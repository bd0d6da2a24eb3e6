"""When the image encoder is trained, and the learning rate at each step."""

from __future__ import annotations

import math
from typing import Any

from hficma.model import Model

from ..config.options import ImageEncoderOptions, OptimizerOptions
from .optimizer import Parameters

LATER_PATIENCE = 4
"""Validations without a gain before the second and later turns of `alternate`, as published."""
FALL_EVERY = 25
"""A turn of `alternate` in such an epoch divides the learning rate by ten, as published: by the
published validations, in every fifth epoch, after epoch 25 or 50."""


class ImageEncoderSchedule:
    """Says which part of the model is trained: the image encoder, the rest, or both.

        frozen               rest
        tuned                both
        freeze-then-tune     rest, from epoch `switch_epoch` + 1 both (AdaMine)
        alternate            rest, image encoder, rest, ... by turns (HF-ICMA)

    A turn of `alternate` ends where `patience` validations bring no new best, LATER_PATIENCE from
    the second turn on, and one that falls on a multiple of FALL_EVERY epochs takes the learning
    rate to a tenth. An image encoder that is not trained keeps its BatchNorm statistics too: the
    published code lets them drift.

    Attributes:
        image_encoder: whether the image encoder is trained now.
        rest: whether the rest is.
        touched: whether the image encoder was ever trained: until then, regions of photos that
            were computed once and cached stand for it.
        rate: share of the learning rate that turns have left.
    """

    def __init__(self, options: ImageEncoderOptions) -> None:
        self._options = options
        self._best = -math.inf
        self._idle = 0
        self._patience = options.patience
        self.image_encoder = options.schedule == "tuned"
        self.rest = True
        self.touched = False
        self.rate = 1.0
        self._epoch = 0

    def begin(self, epoch: int) -> None:
        """Begin an epoch, counted from 1."""
        self._epoch = epoch
        if self._options.schedule == "freeze-then-tune":
            self.image_encoder = epoch > self._options.switch_epoch
        self.touched |= self.image_encoder

    def observe(self, score: float) -> None:
        """Take in the score of a validation; larger is better."""
        if score > self._best:
            self._best, self._idle = score, 0
            return
        self._idle += 1
        if self._options.schedule == "alternate" and self._idle >= self._patience:
            self.image_encoder, self.rest = self.rest, self.image_encoder
            self._idle, self._patience = 0, LATER_PATIENCE
            if self._epoch % FALL_EVERY == 0:
                self.rate /= 10

    def apply(self, model: Model, parameters: Parameters) -> None:
        """Put the model into training mode, except for what is not trained."""
        model.train()
        # Not by gradients alone: in training mode BatchNorm would move its running statistics, and
        # regions that were cached before would no longer be the encoder's.
        model.trunk.train(self.image_encoder)
        for parameter in parameters.image_encoder:
            parameter.requires_grad_(self.image_encoder)
        for parameter in parameters.rest:
            parameter.requires_grad_(self.rest)

    def state(self) -> dict[str, Any]:
        """Return what a resumed run must know, as JSON values."""
        return {
            "best": self._best if math.isfinite(self._best) else None,
            "idle": self._idle,
            "patience": self._patience,
            "trunk": self.image_encoder,
            "rest": self.rest,
            "touched": self.touched,
            "rate": self.rate,
        }

    def load_state(self, record: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self._best = -math.inf if record["best"] is None else record["best"]
        self._idle, self._patience = record["idle"], record["patience"]
        self.image_encoder, self.rest = record["trunk"], record["rest"]
        self.touched = record["touched"]
        self.rate = record.get("rate", 1.0)  # runs of older releases keep the whole of it


def learning_rate(options: OptimizerOptions, progress: float, epochs: int) -> float:
    r"""Return the share of the learning rate that a step takes.

        1 |    ____                 linear from 0 over `warmup` epochs, which keeps the first
          |   /    \___             steps of a random start small; then constant, or half a
        0 |__/         \___         cosine down to 0 at the last epoch
          0  warmup   epochs

    Args:
        options: warm-up and decay.
        progress: epochs done, with the fraction of the present one.
        epochs: of the whole run.

    Returns:
        between 0 and 1.
    """
    if progress < options.warmup:
        return progress / options.warmup
    if options.decay == "none":
        return 1.0
    # Guarded: warm-up may take the whole of a short run.
    share = (progress - options.warmup) / max(epochs - options.warmup, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
