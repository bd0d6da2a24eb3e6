"""Rows of numbers from 0 up in four bits each, with a scale for every few of them.

Tokens come out of a ReLU: none is negative and more than half are zero. So all 16 codes stand for
values from 0 up, and zero is kept exactly, where codes of both signs would spend half of theirs on
values that never occur:

    value = scale * code        code = round(value / scale) in 0 ... 15        scale = max / 15

A scale belongs to a group of neighbouring features, 32 of them, or of a narrower row as many as
divide it. Each half of a group fills the low or the high four bits of the same bytes, so that a
vector unit takes both apart by one mask and one shift:

    features of a group    0    1   ...  15  |  16   17  ...  31
    byte                   0    1   ...  15     0    1   ...  15
    bits                   low four             high four

`docs/results/storage.md` has what a scale a token, both signs, a rotation and fewer tokens lose.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hficma.types import Array, Floats, Halves

LARGEST_CODE = 15
GROUP = 32
"""Features that share a scale: half a byte more for each eight of them, and a fifth of the error
less than one scale a token."""

Codes = npt.NDArray[np.uint8]
"""Two codes a byte."""


def group_size(width: int) -> int:
    """Return how many features share a scale in rows of a width.

    Args:
        width: D.

    Raises:
        ValueError: the width is odd: two codes fill a byte.
    """
    if width % 2:
        raise ValueError(f"rows of {width} numbers do not fill whole bytes in four bits")
    return math.gcd(width, GROUP)


def pack(rows: Floats) -> tuple[Codes, Halves]:
    """Return rows in four bits a number.

    Args:
        rows: (rows, D) float32, finite and not negative, D even.

    Returns:
        codes (rows, D / 2), and scales (rows, D / group) float16.
    """
    size = group_size(rows.shape[1])
    groups = rows.reshape(len(rows), -1, size)
    largest = groups.max(axis=-1, initial=0.0)
    # Divided by the scale as it is stored, not as it was computed: float16 may have rounded it. A
    # group whose scale rounds to 0 holds nothing above 1e-6, and becomes zeros.
    scales = np.minimum(largest / LARGEST_CODE, np.finfo(np.float16).max).astype(np.float16)
    divisors = np.where(scales > 0, scales.astype(np.float32), np.float32(np.inf))
    codes = np.rint(groups / divisors[..., None]).clip(0, LARGEST_CODE).astype(np.uint8)
    half = size // 2
    packed: Codes = codes[..., :half] | (codes[..., half:] << np.uint8(4))
    return packed.reshape(len(rows), -1), scales


def unpack(packed: Array, scales: Array, out: Floats) -> None:
    """Write rows out in float32.

    Args:
        packed: codes (..., D / 2) uint8.
        scales: (..., D / group) float16.
        out: (..., D), contiguous.
    """
    groups: Any = out.reshape(-1, 2, packed.shape[-1] // scales.shape[-1])
    codes = packed.reshape(len(groups), -1)
    groups[:, 0] = codes & 15
    groups[:, 1] = codes >> 4
    groups *= scales.astype(np.float32).reshape(-1, 1, 1)
