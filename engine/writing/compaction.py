"""Merging shards, so that an index of many small additions stays one of few shards: which, and how.

Nothing is encoded again: rows are copied as they are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from hficma.types import Mask

from ..index.item_encoding import EXACT_TOKENS
from ..index.shard import Shard
from .shard_writer import ShardWriter

ITEMS_PER_COPY = 1024
"""Items in memory at once while they are copied."""


def tail_to_merge(sizes: Iterable[int], limit: int) -> int:
    """Return how many of an index's last shards an addition merges.

    A shard is taken in while it holds less than twice what stands behind it. So sizes at least
    double from each small shard to the one before it: after n additions there are about log2 n,
    and beside them only shards that two by two would exceed `limit`. An item that is written
    again lies in a shard half as large again than before, so it is so at most log1.5 n times.

    Args:
        sizes: items of the shards, from the last one on backwards; read no further than needed.
        limit: items that a shard may hold.
    """
    count = total = 0
    for size in sizes:
        if count and (size >= 2 * total or size + total > limit):
            break
        total += size
        count += 1
    return count


def runs_to_merge(sizes: Sequence[int], limit: int) -> list[range]:
    """Return runs of neighbouring shards, as many together as stay within `limit` items.

    Args:
        sizes: items of each shard that were not removed.
        limit: items that a shard may hold.

    Returns:
        places of the shards, every one in one run; a run of one shard is not merged.
    """
    runs: list[range] = []
    total = 0
    for place, size in enumerate(sizes):
        if runs and total + size <= limit:
            runs[-1] = range(runs[-1].start, place + 1)
            total += size
        else:
            runs.append(range(place, place + 1))
            total = size
    return runs


def copy_items(shard: Shard, mask: Mask, writer: ShardWriter) -> None:
    """Write some of a shard's items into another, as they are stored.

    Args:
        shard: where they are.
        mask: (N,) which of its items to write.
        writer: of the new shard.
    """
    positions = np.flatnonzero(mask)
    encodings, exact = shard.encodings, shard.exact_encodings
    for start in range(0, len(positions), ITEMS_PER_COPY):
        part = positions[start : start + ITEMS_PER_COPY]
        recipes = shard.records.recipes(part.tolist())
        lengths = np.zeros(len(part), np.int64)
        rows = {}
        if encodings is not None:
            lengths = encodings.lengths[part]
            rows = {name: a[encodings.rows(name, part)] for name, a in encodings.arrays.items()}
        if exact is not None:
            rows[EXACT_TOKENS] = exact.arrays["tokens"][exact.rows("tokens", part)]
        photos = {} if shard.photos is None else shard.photos.rows(part.tolist())
        writer.append_stored(
            shard.numbers[part],
            [recipes[position] for position in part.tolist()],
            shard.vectors[part],
            lengths,
            rows,
            [photos.get(position) for position in part.tolist()],
        )
    # Of the whole shard: what its removed items lost is not known apart.
    writer.add_errors(shard.facts.errors)
