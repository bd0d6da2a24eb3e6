"""Muon: a layer's momentum, orthogonalised, is its step (Jordan et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
ITERATIONS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ADAM_SIZE = 0.2


class Muon(torch.optim.Optimizer):
    r"""Steps along the semi-orthogonal matrix that is nearest to the momentum.

    m ← β m + (1 - β) g          W ← W - η (0.2 √max(n, k) · polar((1 - β) g + β m) + λ W)

    with W an (n, k) matrix; a convolution's kernel (O, I, h, w) is the matrix (O, I h w). Every
    direction in which a layer can change then changes alike, where Adam follows the few that the
    gradients agree on. The factor gives updates the root mean square that Adam's have, 0.2 η, so
    that both take one learning rate (Liu et al. 2025, "Muon is scalable for LLM training").

    Args:
        params: parameters, or groups of them, of two dimensions or more.
        lr: η.
        weight_decay: λ, decoupled.
    """

    def __init__(
        self, params: Iterable[Any], *, lr: float = 1e-3, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        assert closure is None, "the loop calls backward itself"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group["lr"], group["weight_decay"])

    def _move(self, parameter: Tensor, rate: float, decay: float) -> None:
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        ahead = torch.lerp(gradient, momentum, MOMENTUM).flatten(1)
        scale = _ADAM_SIZE * max(ahead.shape) ** 0.5
        parameter.mul_(1 - rate * decay)
        parameter.add_(orthogonalised(ahead).view_as(parameter), alpha=-rate * scale)


def orthogonalised(matrix: Tensor) -> Tensor:
    """U Vᵀ of a matrix U Σ Vᵀ (n, k), up to singular values between 0.7 and 1.2.

    Five Newton-Schulz steps X ← a X + (b A + c A²) X with A = X Xᵀ, whose polynomial brings
    singular values near 1 from as little as 0.001 of the largest; it is steeper at 0 than one
    that converges, which is why it does not end at 1 (Jordan et al. 2024).
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    found: Tensor = wide / wide.norm().clamp(min=1e-12)
    a, b, c = _QUINTIC
    for _ in range(ITERATIONS):
        gram = found @ found.T
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        found = torch.addmm(found, polynomial, found, beta=a)
    return found if wide is matrix else found.T
