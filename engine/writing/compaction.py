"""Which shards become one, so that an index of many small additions stays one of few shards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ..index.shard import Shard
from .shard_writer import ShardWriter

COPIED_TOGETHER = 1024


def tail_to_merge(sizes: Iterable[int], limit: int) -> int:
    """How many of an index's last shards an addition merges.

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
    """Runs of neighbouring shards, as many together as stay within `limit` items.

    Args:
        sizes: items of each shard that are still there.
        limit: items that a shard may hold.
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


def copy_items(shard: Shard, kept: npt.NDArray[np.bool_], writer: ShardWriter) -> None:
    """Write a shard's kept items as they are stored.

    Args:
        shard: where they are.
        kept: (N,) which of its items.
        writer: of the new shard.
    """
    positions = np.flatnonzero(kept)
    encodings = shard.encodings
    for start in range(0, len(positions), COPIED_TOGETHER):
        part = positions[start : start + COPIED_TOGETHER]
        recipes = shard.records.recipes(part.tolist())
        writer.append_stored(
            shard.numbers[part],
            [recipes[position] for position in part.tolist()],
            shard.vectors[part],
            encodings.lengths[part] if encodings else np.zeros(len(part), np.int64),
            {name: rows[encodings.rows(name, part)] for name, rows in encodings.arrays.items()}
            if encodings
            else {},
        )
    writer.add_errors(shard.facts.errors)
