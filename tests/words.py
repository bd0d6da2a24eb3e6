"""The twenty words that the tests' random models and noise recipes know."""

from __future__ import annotations

WORDS = tuple(
    "salt sugar flour butter egg milk onion garlic tomato basil oil pepper rice chicken bake "
    "stir cook olive_oil brown_sugar soup".split()
)
