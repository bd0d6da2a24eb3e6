"""What an image encoder reads is part of a model: it survives JSON, and nonsense is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hficma.images.image_input import ImageInput


def test_an_input_survives_json() -> None:
    """A model that is read back with other pixels would see worse, and nothing would say so."""
    original = ImageInput(
        size=384, short_side=384, resize="squash", interpolation="bicubic",
        mean=(0.5, 0.5, 0.5), deviation=(0.5, 0.25, 0.5),
    )  # fmt: skip
    assert ImageInput.from_json(json.loads(json.dumps(original.to_json()))) == original


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0}, {"size": 300}, {"short_side": 10**9}, {"resize": "crop"}, {"mean": 0.5},
        {"mean": [0.5, 0.5]}, {"mean": [0.5, 0.5, "x"]}, {"deviation": [1, 1, 0]},
        {"deviation": [1, 1, float("nan")]}, {"unknown": 1},
    ],
)  # fmt: skip
def test_a_damaged_input_is_refused(change: dict[str, Any]) -> None:
    """Manifests come from outside: a size of 10^9 must not become memory."""
    with pytest.raises(ValueError, match=r"."):
        ImageInput.from_json(ImageInput().to_json() | change)
