"""Letting each id into an index once, whatever the number of shards that may hold it already.

Two ways to know whether an id is taken: ask the database of every shard, or read all ids once
into a table of hashes. Asking is cheap for the few items that are usually added; of many, its
cost grows with items times shards. So shards are asked until that cost as much as reading them
would have, and are read then: at no time has more than twice the better way been paid.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hficma.errors import InputError
from hficma.recipe import Recipe
from hficma.types import Mask

from ..index.shard import Shard
from ..index.shard_facts import ShardFacts
from .encoding_pipeline import OnBad

ASKING = 8
"""Asking a shard for one id costs about as much as reading so many ids of it."""


class UniqueIds:
    """Lets each id into an index once.

    Args:
        shards: folders of the shards that stand.
        removed: numbers of items whose ids are free again.
        strict: make a second one an error instead of leaving it out.
        on_bad: told of each one left out.
    """

    def __init__(
        self, shards: Sequence[Path], removed: Sequence[int], *, strict: bool, on_bad: OnBad
    ) -> None:
        self._shards = list(shards)
        self._before = len(self._shards)  # those at later places were written meanwhile
        self._removed = np.array(removed, dtype=np.int64)
        self._unread = list(range(len(self._shards)))
        self._unread_items = sum(ShardFacts.read(folder).count for folder in self._shards)
        self._asked = 0
        self._table = IdTable()
        self._fresh: set[str] = set()
        self._strict = strict
        self._on_bad = on_bad

    def accept(self, recipes: Sequence[Recipe]) -> Mask:
        """Return which of the next items are new, (N,), and count their ids as taken."""
        holders = self._holders([recipe.id for recipe in recipes])
        mask = np.ones(len(recipes), dtype=bool)
        for place, recipe in enumerate(recipes):
            if recipe.id in self._fresh or holders.get(recipe.id, -1) >= self._before:
                reason = "this id came before in what is being added"
            elif recipe.id in holders:
                reason = "this id is in the index already"
            else:
                self._fresh.add(recipe.id)
                continue
            self.refuse(recipe, reason)
            mask[place] = False
        return mask

    def refuse(self, recipe: Recipe, reason: str) -> None:
        """Leave an item out and tell why, or raise where bad items are errors."""
        title = f" ({recipe.title!r})" if recipe.title else ""
        message = f"{recipe.id}{title}: {reason}"
        if self._strict:
            raise InputError(message)
        self._on_bad(message)

    def shard_done(self, shard: Path) -> None:
        """Know a finished shard's ids by their hashes from now on."""
        place = len(self._shards)
        self._shards.append(shard)
        self._table.add(self._fresh or _ids(shard), place)
        self._fresh = set()

    def _holders(self, ids: Sequence[str]) -> dict[str, int]:
        """Places of the shards that hold those of the ids that are taken."""
        self._asked += len(ids)
        if self._asked * len(self._unread) * ASKING > self._unread_items:
            for place in self._unread:
                self._table.add(_ids(self._shards[place]), place)
            self._unread.clear()
        questions = self._table.candidates(ids)
        questions.update({place: list(ids) for place in self._unread})
        return {
            name: place
            for place, names in questions.items()
            for name in self._held(self._shards[place], names)
        }

    def _held(self, shard: Path, ids: Sequence[str]) -> list[str]:
        """The ids that a shard really holds, and that were not removed."""
        with Shard(shard) as opened:
            positions = opened.records.with_ids(ids)
            return [
                name
                for name, position in positions.items()
                if not len(self._removed) or opened.numbers[position] not in self._removed
            ]


class IdTable:
    """Ids by hash, each with the place of a shard that may hold it: 12 bytes an id.

    Hashes are kept in sorted runs. A run that grew as long as half of the one before is merged
    with it, so there are at most log2 of N runs to look into, and no hash is moved more often.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]] = []

    def add(self, ids: Iterable[str], place: int) -> None:
        """Note that a shard holds the ids."""
        hashes = np.sort(_hashes(ids))
        if not len(hashes):
            return
        self._runs.append((hashes, np.full(len(hashes), place, dtype=np.int32)))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            last, before = self._runs.pop(), self._runs.pop()
            hashes = np.concatenate([before[0], last[0]])
            places = np.concatenate([before[1], last[1]])
            order = np.argsort(hashes, kind="stable")  # timsort: linear in two sorted runs
            self._runs.append((hashes[order], places[order]))

    def candidates(self, ids: Sequence[str]) -> dict[int, list[str]]:
        """Places of shards to the ids that each may hold; equal hashes are not yet equal ids."""
        found: dict[int, list[str]] = defaultdict(list)
        wanted = _hashes(ids)
        for hashes, places in self._runs:
            first = np.searchsorted(hashes, wanted, side="left")
            stop = np.searchsorted(hashes, wanted, side="right")
            for number in np.flatnonzero(stop > first).tolist():
                for place in set(places[first[number] : stop[number]].tolist()):
                    found[place].append(ids[number])
        return found


def _hashes(ids: Iterable[str]) -> npt.NDArray[np.int64]:
    # Python's own: keyed by a secret of the process, so that nobody can choose ids that collide.
    return np.fromiter((hash(name) for name in ids), dtype=np.int64)


def _ids(shard: Path) -> list[str]:
    """All ids that a shard holds."""
    if not ShardFacts.read(shard).count:
        return []
    with Shard(shard) as opened:
        return list(opened.records.ids(range(opened.count)).values())
