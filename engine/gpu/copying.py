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


def send(array: Array, device: torch.device) -> Tensor:
    """Return a host array on a device, without waiting for what was launched there before.

    A copy from memory that is not pinned waits until the device has done all of that.

    Args:
        array: of any shape; it may be changed at once.
        device: where to.
    """
    if device.type != "cuda":
        return torch.tensor(array, device=device)
    pinned = torch.empty(array.shape, dtype=torch_dtype(array), pin_memory=True)
    pinned.numpy()[...] = array
    # Pinned memory is used again only when its copy has ended: torch counts that itself.
    return pinned.to(device, non_blocking=True)


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
