"""Ids that stand in several shards-to-be, which are written apart from each other.

An index holds an id once: the first item of it that can be read. One machine knows what came
before; here a shard's writer does not know whether the item before it, in a shard that another
machine writes, can be read. So it is assumed to be, which nearly always holds, and looked at when
the shards are there:

    chunk        0      1      2
    id "a"       item   item   item     1 and 2 leave "a" out
    as written   bad    -      -        no shard has "a": 1 is written again, with it
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import xxhash

Hashes = npt.NDArray[np.uint64]
"""XXH3 of ids, (N,)."""


def hash_ids(ids: Iterable[str]) -> Hashes:
    """Return the hash of each id, (N,), the same on every machine."""
    return np.fromiter((xxhash.xxh3_64_intdigest(id_.encode()) for id_ in ids), dtype=np.uint64)


def shared_hashes(by_chunk: Sequence[Hashes]) -> Hashes:
    """Return the hashes that stand in more than one chunk, rising.

    Args:
        by_chunk: of each chunk's ids, (N,): 8 bytes an id in memory.
    """
    distinct = [np.unique(hashes) for hashes in by_chunk]
    hashes, counts = np.unique(
        np.concatenate([*distinct, np.empty(0, np.uint64)]), return_counts=True
    )
    return hashes[counts > 1]


class SharedIds:
    """Which chunk shall leave out which ids, by what is known of the shards so far.

    Args:
        by_chunk: the ids of each chunk that also stand in others.
    """

    def __init__(self, by_chunk: Sequence[Collection[str]]) -> None:
        self._chunks: dict[str, list[int]] = {}
        for chunk, ids in enumerate(by_chunk):
            for id_ in ids:
                self._chunks.setdefault(id_, []).append(chunk)
        # Hashes may be equal where ids are not.
        self._chunks = {id_: chunks for id_, chunks in self._chunks.items() if len(chunks) > 1}
        self.before: list[set[str]] = [set() for _ in by_chunk]
        """Ids that each chunk shall leave out, for they come before."""
        for id_, chunks in self._chunks.items():
            for chunk in chunks[1:]:
                self.before[chunk].add(id_)

    def wrong_chunks(self, holds: Callable[[int, str], bool]) -> set[int]:
        """Return the chunks whose shards must be written again, and what they then leave out.

        Called again when they are: each round settles one more shard of an id, from the first on.

        Args:
            holds: whether the shard of a chunk holds an id.
        """
        wrong = set()
        for id_, chunks in self._chunks.items():
            taken = False
            for chunk in chunks:
                if holds(chunk, id_):
                    if taken:
                        self.before[chunk].add(id_)
                        wrong.add(chunk)
                    taken = True
                elif not taken and id_ in self.before[chunk]:
                    self.before[chunk].discard(id_)
                    wrong.add(chunk)
                    break  # those behind it depend on what comes of this
        return wrong
