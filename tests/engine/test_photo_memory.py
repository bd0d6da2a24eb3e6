"""Photos are decoded to where they are encoded from: a batch of them is one array already."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hficma.engine.bundle.bundle import Bundle
from hficma.engine.encoder import joined, photo_memory
from hficma.images.crops import crops, crops_into
from tests.engine.datasets import NoiseDataset
from tests.engine.factories import tiny_bundle


def test_rows_of_one_memory_are_joined_without_a_copy() -> None:
    """A batch would be copied once more; and rows in another order would be other photos."""
    memory = np.arange(5 * 2 * 2 * 3, dtype=np.uint8).reshape(5, 2, 2, 3).copy()
    rows = list(memory)
    assert np.shares_memory(joined(rows), memory)
    for chosen in (
        rows,
        rows[1:4],
        rows[:1],
        rows[::-1],
        rows[::2],
        [rows[0], rows[0]],
        [rows[0], rows[1].copy()],
        [one[:1] for one in rows],
        list(memory[:, ::-1]),
    ):
        np.testing.assert_array_equal(joined(chosen), np.stack(chosen))
    assert np.shares_memory(joined(rows[1:4]), memory)
    alone = np.ones((2, 2, 3), np.uint8)
    np.testing.assert_array_equal(joined([alone]), alone[None])


def test_photos_are_decoded_into_their_place(tmp_path: Path) -> None:
    """What is encoded must be the very pixels of a photo that is read alone."""
    bundle = Bundle.open(tiny_bundle(tmp_path))
    photo = NoiseDataset(1).photo(0)
    for views in (None, 1, 5):
        rows = photo_memory(bundle, 3, views)
        expected = crops(photo, bundle.image_input, views or 1)
        written = crops_into(photo, bundle.image_input, rows[1])
        assert written is rows[1]
        np.testing.assert_array_equal(rows[1], expected[0] if views is None else expected)
