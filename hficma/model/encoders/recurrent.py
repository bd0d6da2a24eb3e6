"""Recurrent layers over padded sequences, written so that they also export.

Packed sequences do not export to ONNX; running the backward direction on rows reversed
within their lengths gives the same numbers with plain layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def reversed_positions(lengths: Tensor, size: int) -> Tensor:
    """Return positions that reverse each row within its length and leave the padding in place.

    Args:
        lengths: (M,) int64.
        size: padded length T.

    Returns:
        (M, T) int64.
    """
    # Of a row of 3 in 5 steps:  steps 0 1 2 3 4,  mirrored 2 1 0 -1 -2,  result 2 1 0 3 4.
    steps = torch.arange(size, device=lengths.device)
    mirrored = lengths[:, None] - 1 - steps
    return torch.where(mirrored >= 0, mirrored, steps)


def take_rows(values: Tensor, positions: Tensor) -> Tensor:
    """Gather rows of values (M, T, D) at positions (M, K): (M, K, D)."""
    return values.gather(1, positions[:, :, None].expand(-1, -1, values.shape[2]))


def last_valid(values: Tensor, lengths: Tensor) -> Tensor:
    """Gather the last unpadded step of values (M, T, D), by lengths (M,): (M, D)."""
    return take_rows(values, (lengths - 1)[:, None])[:, 0]


def run_steps(layer: nn.GRU | nn.LSTM, values: Tensor) -> Tensor:
    """Compute the states of a recurrent layer at every step, in the precision of its weights.

    Autocast is off in here: CPUs lack half-precision kernels for some layers, and errors of
    half precision grow with every step.

    Args:
        layer: batch first.
        values: (M, T, D_in).

    Returns:
        (M, T, width).
    """
    with torch.autocast(values.device.type, enabled=False):
        states: Tensor = layer(values.to(next(layer.parameters()).dtype))[0]
    return states


class Bidirectional(nn.Module):
    """A one-layer recurrent network in both directions.

    Args:
        kind: `nn.GRU` or `nn.LSTM`.
        input_width: width of the inputs.
        width: width of each direction's state.
    """

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM], input_width: int, width: int) -> None:
        super().__init__()
        self.ahead = kind(input_width, width, batch_first=True)
        self.back = kind(input_width, width, batch_first=True)

    def forward(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the states of both directions at every step.

        Args:
            values: (M, T, D_in), padded.
            lengths: (M,) int64, at least 1.

        Returns:
            two tensors (M, T, width), both in the order of the input; values at padded steps
            mean nothing.
        """
        # Reversed whole, the backward direction would read the padding first; reversed within its
        # length, a row starts at its last token. The states are put back by the same positions.
        backwards = reversed_positions(lengths, values.shape[1])
        back = run_steps(self.back, take_rows(values, backwards))
        return run_steps(self.ahead, values), take_rows(back, backwards)
