"""A running mean of the weights: steadier than the last step's, at no cost in serving."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

RAW = "raw."


class RunningMean:
    """Exponential mean of a model's floating weights and statistics.

    The decay grows with the steps, min(decay, (1 + t) / (10 + t)), so that the random start is
    soon forgotten.

    Args:
        model: whose weights are averaged.
        decay: share of the old mean kept at each step; 0 keeps no mean at all.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay, self._steps = model, decay, 0
        self._mean = {name: value.clone() for name, value in self._values()} if decay else {}

    def _values(self) -> Iterator[tuple[str, Tensor]]:
        for name, value in self._model.state_dict().items():
            if value.is_floating_point():
                yield name, value

    @torch.no_grad()
    def update(self) -> None:
        """Take one step of the model into the mean."""
        if not self._decay:
            return
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for name, value in self._values():
            self._mean[name].lerp_(value, 1 - decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model carries the mean inside the block, and its own weights after it."""
        raw = self.raw()
        self._copy(self._mean)
        try:
            yield
        finally:
            self._copy({name.removeprefix(RAW): value for name, value in raw.items()})

    def raw(self) -> dict[str, Tensor]:
        """The model's own weights, to be kept beside the mean; empty without a mean."""
        return {f"{RAW}{name}": value.clone() for name, value in self._values() if self._decay}

    def restore(self, weights: Mapping[str, Tensor], raw: Mapping[str, Tensor], steps: int) -> None:
        """Go on from a checkpoint.

        Args:
            weights: hold the mean.
            raw: the model's own.
            steps: how many were taken into the mean.
        """
        if not self._decay:
            return
        self._steps = steps
        for name, mean in self._mean.items():
            mean.copy_(weights[name])
        self._copy({name.removeprefix(RAW): value for name, value in raw.items()})

    @torch.no_grad()
    def _copy(self, source: Mapping[str, Tensor]) -> None:
        for name, value in self._values():
            if name in source:
                value.copy_(source[name])
