"""Says which recipes text vectors learn from, and which measure them."""

from __future__ import annotations

import zlib

from hficma.recipe import Recipe

SHARE = 50
"""Of recipes without a partition, one in this many is held out."""


def is_held_out(recipe: Recipe) -> bool:
    """Return whether a recipe is kept from training, by its partition or its id's checksum."""
    if recipe.partition is not None:
        return recipe.partition != "train"
    return zlib.crc32(recipe.id.encode()) % SHARE == 0
