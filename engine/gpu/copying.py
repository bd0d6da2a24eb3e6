"""Arrays of shards, from the host's memory to a device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hficma.types import Array

from ..files.ragged import Rows

COPY_BYTES = 1 << 26
"""Bytes that are copied at once: bounds what a copy takes of the host's memory."""


def torch_dtype(array: Rows) -> torch.dtype:
    """Return torch's name of an array's element type."""
    dtype: torch.dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    return dtype


def copy_rows(array: Rows, out: Tensor) -> None:
    """Copy the first rows of a stored array, in pieces that are compared with their checksums.

    Args:
        array: (N, ...) of any of the stored dtypes.
        out: (n, ...) of the same dtype, on any device.
    """
    step = max(1, COPY_BYTES * len(array) // max(1, array.nbytes))
    for start in range(0, len(out), step):
        stop = min(start + step, len(out))
        piece: Array = array[start:stop]
        out[start:stop] = torch.tensor(piece)


def copy_to_device(array: Rows, device: torch.device) -> Tensor:
    """Return a copy of a stored array on a device.

    Args:
        array: (N, ...) of any of the stored dtypes.
        device: where to.
    """
    out = torch.empty(array.shape, dtype=torch_dtype(array), device=device)
    copy_rows(array, out)
    return out
