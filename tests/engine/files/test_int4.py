"""Four bits a number: where each lies, and how far it may be from what it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hficma.engine.files.int4 import GROUP, LARGEST_CODE, group_size, pack, unpack


def unpacked(rows: np.ndarray) -> np.ndarray:
    """Rows as they are read back."""
    out = np.full(rows.shape, np.nan, np.float32)
    unpack(*pack(rows), out)
    return out


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.sampled_from([2, 6, 16, 32, 96])),
        elements=st.floats(0, 60_000, width=32),
    )
)
def test_a_number_moves_by_at_most_half_a_step(rows: np.ndarray) -> None:
    """A code in another feature's place, or a scale of another group, would move it by far more."""
    groups = rows.reshape(len(rows), -1, group_size(rows.shape[1]))
    # A step is the group's largest number over 15, as float16 holds it; where that is too small for
    # float16, the numbers are too.
    steps = groups.max(axis=-1, keepdims=True) / LARGEST_CODE
    allowed = np.broadcast_to(0.5 * steps * 1.02 + 1e-6, groups.shape).reshape(rows.shape)
    assert (np.abs(unpacked(rows) - rows) <= allowed).all()


def test_zeros_stay_zeros_and_each_groups_largest_number_stays() -> None:
    """More than half of a token's numbers are zero: an offset would move all of them."""
    rows = np.maximum(np.random.default_rng(0).normal(size=(5, 128)), 0).astype(np.float32)
    read = unpacked(rows)
    assert (read[rows == 0] == 0).all()
    largest = rows.reshape(5, -1, GROUP).max(axis=-1)
    np.testing.assert_allclose(read.reshape(5, -1, GROUP).max(axis=-1), largest, rtol=1e-3)


def test_the_halves_of_a_group_share_bytes() -> None:
    """Compiled kernels read the same layout."""
    rows = np.zeros((1, 64), np.float32)
    rows[0, [0, 3, 19, 32, 63]] = 15, 7, 2, 15, 9
    codes, scales = pack(rows)
    assert codes.dtype == np.uint8
    assert codes.shape == (1, 32)
    assert scales.tolist() == [[1, 1]]
    expected = np.zeros(32, np.uint8)
    expected[0], expected[3], expected[16], expected[31] = 15, 7 | 2 << 4, 15, 9 << 4
    np.testing.assert_array_equal(codes[0], expected)


def test_a_row_of_an_odd_number_is_refused() -> None:
    """Its last number would share a byte with the next row."""
    with pytest.raises(ValueError, match="whole bytes"):
        pack(np.ones((1, 7), np.float32))
