"""Muon: a layer's momentum, orthogonalised, is its step (Jordan et al. 2024).

torch.optim.Muon takes matrices alone; this one takes kernels of convolutions too, which an image
encoder is made of, and computes in float32. A test holds the two together on matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
"""β, as published."""
ITERATIONS = 5
"""Newton-Schulz steps, as published: a singular value of 0.001 of the largest comes near 1."""
_QUINTIC = (3.4445, -4.7750, 2.0315)
"""a, b, c of `orthogonalised`, as published: tuned for the steepest slope at 0 (a) with
which singular values in (0, 1] still end within 0.7 to 1.2."""
_ADAM_RMS = 0.2
"""Root mean square of an Adam step at a learning rate of 1, as Liu et al. measure it."""


class Muon(torch.optim.Optimizer):
    r"""Steps along the semi-orthogonal matrix that is nearest to the momentum.

    m ← β m + (1 - β) g          W ← W - η (0.2 √max(n, k) · polar((1 - β) g + β m) + λ W)

    with W an (n, k) matrix; a convolution's kernel (O, I, h, w) is the matrix (O, I h w). Every
    direction in which a layer can change then changes alike, where Adam follows the few that the
    gradients agree on. The factor gives updates the root mean square that Adam's have, 0.2 η, so
    that both take one learning rate (Liu et al. 2025, "Muon is scalable for LLM training",
    section 2.2). That the gradient enters once more beside the momentum is Nesterov's look ahead.

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
        assert closure is None, "the trainer calls backward itself"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group["lr"], group["weight_decay"])

    def _move(self, parameter: Tensor, rate: float, decay: float) -> None:
        """Take one parameter's step in place."""
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        direction = torch.lerp(gradient, momentum, MOMENTUM).flatten(1)  # (n, k)
        # A semi-orthogonal (n, k) matrix has min(n, k) singular values of 1, so its entries have
        # a root mean square of √(min(n, k) / (n k)) = 1 / √max(n, k).
        scale = _ADAM_RMS * max(direction.shape) ** 0.5
        parameter.mul_(1 - rate * decay)
        parameter.add_(orthogonalised(direction).view_as(parameter), alpha=-rate * scale)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return U Vᵀ of a matrix U Σ Vᵀ, up to singular values between 0.7 and 1.2.

    Five Newton-Schulz steps X ← a X + (b A + c A²) X with A = X Xᵀ: each applies the odd
    polynomial a s + b s³ + c s⁵ to every singular value s and leaves U and V as they are. Only
    products of matrices, which a GPU is best at, where a decomposition would take most of the
    time of a step. Its coefficients trade an exact 1 at the end for a steep slope at 0, so that
    five steps suffice; that values end between 0.7 and 1.2 does not hurt training (Jordan et al.
    2024).

    Args:
        matrix: (n, k).

    Returns:
        (n, k).
    """
    # A = X Xᵀ is the smaller of the two products where X is wide.
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    # The Frobenius norm bounds the largest singular value: all of them come into [0, 1].
    result: Tensor = wide / wide.norm().clamp(min=1e-12)
    a, b, c = _QUINTIC
    for _ in range(ITERATIONS):
        gram = result @ result.T
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)  # b A + c A²
        result = torch.addmm(result, polynomial, result, beta=a)
    return result if wide is matrix else result.T
