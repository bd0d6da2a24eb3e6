"""Batch normalisation over the photos of all processes, as one process would see them.

A GPU's share of a batch of 32 is 4 photos of 8 GPUs': statistics of so few are noise, and a run on
eight GPUs would learn something else than a run on one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import distributed


class SharedBatchNorm2d(nn.BatchNorm2d):
    """The reference, and what runs on a CPU, where torch's SyncBatchNorm does not.

    All processes bring as many photos, so that the mean of their means is the mean of all:

        μ = 1/P Σ_p mean(x_p)      σ² = 1/P Σ_p mean((x_p - μ)²)      y = γ (x - μ) / √(σ² + ε) + β
    """

    def forward(self, values: Tensor) -> Tensor:
        """Normalise (B, C, h, w)."""
        if not self.training:
            return super().forward(values)
        processes = distributed.world_size()
        mean = distributed.add_up(values.mean(dim=(0, 2, 3))) / processes  # (C,)
        # Of what is left, not as E[x²] - μ², which loses all digits where μ is far from 0.
        centred = values - mean[:, None, None]
        variance = distributed.add_up(centred.square().mean(dim=(0, 2, 3))) / processes
        self._track(mean, variance, processes * values.numel() // values.shape[1])
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale[:, None, None] + self.bias[:, None, None]

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Take a batch's statistics into the running ones, as torch's layer does.

        Args:
            mean: (C,).
            variance: (C,), without Bessel's correction, which the running one has.
            count: numbers that each was taken of.
        """
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)


def share_statistics(model: nn.Module) -> None:
    """Let a model's batch normalisation take its statistics of all processes' photos, in place.

    Names and values of weights stay as they are. Layers of other classes than torch's own, such as
    timm's that end in an activation, go on with their process's statistics.
    """
    for module in list(model.modules()):
        for name, layer in module.named_children():
            if type(layer) is not nn.BatchNorm2d:
                continue
            if layer.weight.is_cuda:
                setattr(module, name, nn.SyncBatchNorm.convert_sync_batchnorm(layer))
            else:
                layer.__class__ = SharedBatchNorm2d  # the same tensors, another forward pass
