"""A query's candidates in batches, and by how much a float32 inner product may be wrong."""

from __future__ import annotations

from typing import NamedTuple

from hficma.types import Positions


class CandidateBatch(NamedTuple):
    """Some items of an index to score, and a bound on all that follow them."""

    items: Positions
    """(K,) positions; no item is in two batches of one query."""
    upper_bound: float
    """No item of a later batch has a g above this; -inf where none follows, inf if unknown."""


def dot_error(width: int, left_norm: float, right_norm: float) -> float:
    """Return how far a float32 inner product may be from the exact one, in any summation order.

    |fl(x·y) - x·y| <= γ_n ‖x‖ ‖y‖ with γ_n = n u / (1 - n u), u = 2^-24 (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., eq. 3.5 with Cauchy-Schwarz).

    Args:
        width: n, entries of the vectors.
        left_norm: an upper bound of ‖x‖.
        right_norm: an upper bound of ‖y‖.
    """
    rounding = width * 2.0**-24
    return rounding / (1.0 - rounding) * left_norm * right_norm
