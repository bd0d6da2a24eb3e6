"""Crops: the centre as ever, corners of the photo scaled larger, and one vector of them all."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hficma.errors import InputError
from hficma.images import ImageInput, preprocess
from hficma.images.crops import CORNER_SCALE, check_crops, crops, mean_over_crops

INPUT = ImageInput(size=40, short_side=44, interpolation="bicubic")


def test_the_centre_comes_first_and_the_others_are_the_corners() -> None:
    """Tokens are those of the first crop; a corner cut elsewhere shows the same place twice."""
    generator = np.random.default_rng(0)
    photo = Image.fromarray(generator.integers(0, 256, (90, 130, 3), dtype=np.uint8))
    shown = crops(photo, INPUT, 5)
    assert shown.shape == (5, 40, 40, 3)
    assert np.array_equal(shown[0], preprocess(photo, INPUT))
    assert np.array_equal(crops(photo, INPUT, 1), shown[:1])
    side = round(CORNER_SCALE * 40)
    larger = np.asarray(photo.resize((round(130 * side / 90), side), Image.Resampling.BICUBIC))
    assert np.array_equal(shown[1], larger[:40, :40])
    assert np.array_equal(shown[4], larger[-40:, -40:])
    turned = np.rot90(np.rot90(np.asarray(photo)))
    again = crops(Image.fromarray(np.ascontiguousarray(turned)), INPUT, 5)
    assert np.abs(again[4].astype(int) - np.rot90(np.rot90(shown[1]))).max() <= 3


@pytest.mark.parametrize("shape", [(1, 9000, 3), (3, 3, 3), (40, 40, 3)])
def test_any_shape_has_five(shape: tuple[int, ...]) -> None:
    """A thin photo has corners too, and bounded ones."""
    assert crops(Image.fromarray(np.zeros(shape, np.uint8)), INPUT, 5).shape == (5, 40, 40, 3)


def test_the_mean_has_the_length_that_the_score_counts_on() -> None:
    """A cosine of shorter vectors would rank photos by how alike their crops are."""
    vectors = np.random.default_rng(0).normal(size=(3, 5, 8)).astype(np.float32)
    assert np.allclose(mean_over_crops(vectors, unit=False), vectors.mean(axis=1), atol=1e-6)
    assert np.allclose(np.linalg.norm(mean_over_crops(vectors, unit=True), axis=1), 1)
    two = mean_over_crops(vectors, unit=True, members=2)
    assert np.allclose(np.linalg.norm(two.reshape(3, 2, 4), axis=2), np.sqrt(0.5))
    with pytest.raises(InputError, match="3 crops: there can be 1 or 5"):
        check_crops(3)
