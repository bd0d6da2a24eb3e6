"""Where within an epoch a run stands, and what the rest of the epoch is drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..data.samplers import epoch_generator
from ..parallel import distributed

_TORCH, _CUDA, _PAIRS = "random.torch", "random.cuda", "random.pairs"
"""Names of generators' states among the tensors of a checkpoint."""


class EpochState:
    """One epoch's generators, and what its steps so far came to.

    An epoch draws from generators seeded by (seed, epoch), so that it begins the same way in any
    process. To go on from its middle, their states are kept: those of process 0, and on a CPU the
    run ends at the same bits. Further processes draw anew from there.

    Args:
        seed: of the run.
        epoch: its number, from 1.
        device: that the model is on.

    Attributes:
        batch: batches learnt from.
        sums: of each figure over the steps taken.
        views: draws what is shown of photos and recipes; another in each process.
        pairs: for losses that draw pairs: the same in all.
    """

    def __init__(self, seed: int, epoch: int, device: torch.device) -> None:
        self.batch = 0
        self.sums: dict[str, float] = {}
        self._seed, self._epoch, self._device = seed, epoch, device
        self._seed_all()

    def _seed_all(self) -> None:
        """Seed the generators; torch's own is what dropout draws from."""
        # Prime factors keep (seed, epoch, rank, batch) apart.
        seed, rank = self._seed * 100_003 + self._epoch, distributed.rank()
        torch.manual_seed(seed + 1_000_003 * rank + 10_000_019 * self.batch)
        self.views = epoch_generator(self._seed, self._epoch, 1 + rank)
        self.pairs = torch.Generator().manual_seed(seed)

    def add(self, figures: Mapping[str, float], *, taken: bool) -> None:
        """Count one more batch, and its figures if the step was taken.

        Those of a skipped step may be no numbers: one would spoil the mean of the epoch.
        """
        self.batch += 1
        if taken:
            for name, value in figures.items():
                self.sums[name] = self.sums.get(name, 0.0) + value

    def record(self) -> dict[str, Any]:
        """Return what a checkpoint keeps as JSON values ..."""
        views = self.views.bit_generator.state
        return {"batch": self.batch, "sums": self.sums, "views": views}

    def tensors(self) -> dict[str, Tensor]:
        """Return what it keeps as tensors."""
        states = {_TORCH: torch.get_rng_state(), _PAIRS: self.pairs.get_state()}
        if self._device.type == "cuda":
            states[_CUDA] = torch.cuda.get_rng_state(self._device)
        return states

    def restore(self, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on from where a checkpoint was written."""
        self.batch, self.sums = record["batch"], dict(record["sums"])
        self._seed_all()
        self.pairs.set_state(tensors[_PAIRS].cpu())
        if distributed.rank() == 0:
            torch.set_rng_state(tensors[_TORCH].cpu())
            self.views.bit_generator.state = record["views"]
            if self._device.type == "cuda" and _CUDA in tensors:
                torch.cuda.set_rng_state(tensors[_CUDA].cpu(), self._device)
