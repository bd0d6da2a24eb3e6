"""S, the score of a photo and a recipe: how its two parts are put together.

The formula stands here alone. Training, the graphs, the engine on processors and on a GPU, and the
bounds that certify an answer all call it, in NumPy's arrays and in torch's tensors, so that they
agree to the last bit; nothing here imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Values = TypeVar("Values", float, "npt.NDArray[np.float32]", "npt.NDArray[np.float64]", "Tensor")
"""What S is computed in: it comes back in the type, the precision and the shape of its parts."""


class ScoreWeights(NamedTuple):
    """How much each part of S counts."""

    global_: float
    """w_g > 0."""
    local: float
    """w_l >= 0; 0 for a model without a local part."""
    limit: float = 1.0
    """c in (0, 1]: S_local counts at most c, which 1 says of every sigmoid."""

    def __str__(self) -> str:
        """Return how the parts of S are added up."""
        local = "S_local" if self.limit == 1.0 else f"min(S_local, {self.limit})"
        return f"{self.global_} S_global + {self.local} {local}"

    def total(self, global_: Values, local: Values | None) -> Values:
        """Return S = w_g S_global + w_l min(S_local, c).

        The order of the operations is part of the formula: certificates compare scores to the last
        bit.

        Args:
            global_: S_global, in any shape.
            local: S_local in [0, 1], in the same shape; None where the model has no local part.
        """
        total = self.global_ * global_
        if local is None:
            return total
        if self.limit < 1.0:
            local = _at_most(local, self.limit)
        return total + self.local * local


def _at_most(values: Values, limit: float) -> Values:
    """Return values, those above a limit replaced by it, in their own type and precision."""
    if isinstance(values, float):
        return min(values, limit)
    if isinstance(values, np.ndarray):
        return np.minimum(values, values.dtype.type(limit))
    return values.clamp(max=limit)  # a tensor
