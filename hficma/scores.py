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

    def total(self, global_: Values, local: Values | None) -> Values:
        """Return S = w_g S_global + w_l S_local.

        The order of the operations is part of the formula: certificates compare scores to the last
        bit.

        Args:
            global_: S_global, in any shape.
            local: S_local in [0, 1], in the same shape; None where the model has no local part.
        """
        total = self.global_ * global_
        return total if local is None else total + self.local * local
