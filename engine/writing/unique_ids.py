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
from .encoding_pipeline import BadItemCallback

READS_PER_LOOKUP = 8
"""Asking a shard for one id costs about as much as reading so many ids of it."""


class UniqueIds:
    """Lets each id into an index once.

    Args:
        shards: folders of the shards that stand.
        removed: numbers of items whose ids are free again.
        strict: make a second item of an id an error instead of leaving it out.
        on_bad: called with a line about each item that is left out.
        before: ids that came before in the same input, in shards that are written elsewhere.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        removed: Sequence[int],
        *,
        strict: bool,
        on_bad: BadItemCallback,
        before: Iterable[str] = (),
    ) -> None:
        self._shards = list(shards)
        self._old_count = len(self._shards)
        """Shards from this place on are written meanwhile."""
        self._removed = np.array(removed, dtype=np.int64)
        self._unread = list(range(len(self._shards)))
        """Places of the shards whose ids are not in the table: they are asked."""
        self._unread_items = sum(ShardFacts.read(folder).count for folder in self._shards)
        self._lookups = 0
        self._table = IdTable()
        self._open_ids: set[str] = set(before)
        """Ids of the shard that is being written."""
        self._strict = strict
        self._on_bad = on_bad

    def accept(self, recipes: Sequence[Recipe]) -> Mask:
        """Return which of the next items are new, (N,), and count their ids as taken.

        Args:
            recipes: N items, in their order: of two with one id the first is new.

        Raises:
            InputError: one is not, if `strict`.
        """
        holders = self._holders([recipe.id for recipe in recipes])
        mask = np.ones(len(recipes), dtype=bool)
        for place, recipe in enumerate(recipes):
            if recipe.id in self._open_ids or holders.get(recipe.id, -1) >= self._old_count:
                reason = "this id came before in what is being added"
            elif recipe.id in holders:
                reason = "this id is in the index already"
            else:
                self._open_ids.add(recipe.id)
                continue
            self.refuse(recipe, reason)
            mask[place] = False
        return mask

    def refuse(self, recipe: Recipe, reason: str) -> None:
        """Leave an item out and say why, or raise where bad items are errors.

        Args:
            recipe: of the item.
            reason: why it is left out.

        Raises:
            InputError: if `strict`.
        """
        title = f" ({recipe.title!r})" if recipe.title else ""
        message = f"{recipe.id}{title}: {reason}"
        if self._strict:
            raise InputError(message)
        self._on_bad(message)

    def shard_done(self, shard: Path) -> None:
        """Take a finished shard's ids into the table of hashes.

        Args:
            shard: its folder; its ids are read there if they were not accepted one by one, as
                those of a shard that a killed build left.
        """
        place = len(self._shards)
        self._shards.append(shard)
        self._table.add(self._open_ids or _read_ids(shard), place)
        self._open_ids = set()

    def _holders(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the places of the shards that hold those of the ids that are taken."""
        self._lookups += len(ids)
        # As much was spent on asking as reading takes: from now on asking would cost more.
        if self._lookups * len(self._unread) * READS_PER_LOOKUP > self._unread_items:
            for place in self._unread:
                self._table.add(_read_ids(self._shards[place]), place)
            self._unread.clear()
        questions = self._table.candidates(ids)
        questions.update({place: list(ids) for place in self._unread})
        return {
            id_: place
            for place, ids_to_ask in questions.items()
            for id_ in self._ids_in(self._shards[place], ids_to_ask)
        }

    def _ids_in(self, folder: Path, ids: Sequence[str]) -> list[str]:
        """Return those of the ids that a shard really holds, of items that were not removed."""
        with Shard(folder) as shard:
            positions = shard.records.with_ids(ids)
            return [
                id_
                for id_, position in positions.items()
                if not len(self._removed) or shard.numbers[position] not in self._removed
            ]


class IdTable:
    """Ids by hash, each with the place of a shard that may hold it: 12 bytes an id.

    Hashes are kept in sorted runs. A run that grew as long as half of the one before is merged
    with it, so there are at most log2 of N runs to look into, and no hash is moved more often.
    """

    def __init__(self) -> None:
        # Of each run: hashes (n,), rising, and the places of their shards (n,).
        self._runs: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]] = []

    def add(self, ids: Iterable[str], place: int) -> None:
        """Note that a shard holds the ids.

        Args:
            ids: in any order.
            place: of the shard.
        """
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
        """Return places of shards to the ids that each may hold.

        Equal hashes are not yet equal ids: who asks looks into the shard.

        Args:
            ids: to look for.
        """
        by_place: dict[int, list[str]] = defaultdict(list)
        id_hashes = _hashes(ids)
        for hashes, places in self._runs:
            first = np.searchsorted(hashes, id_hashes, side="left")
            stop = np.searchsorted(hashes, id_hashes, side="right")
            for number in np.flatnonzero(stop > first).tolist():
                for place in set(places[first[number] : stop[number]].tolist()):
                    by_place[place].append(ids[number])
        return by_place


def _hashes(ids: Iterable[str]) -> npt.NDArray[np.int64]:
    """Return the hash of each id, (N,)."""
    # Python's own: keyed by a secret of the process, so that nobody can choose ids that collide.
    return np.fromiter((hash(id_) for id_ in ids), dtype=np.int64)


def _read_ids(folder: Path) -> list[str]:
    """Return all ids that a shard holds."""
    if not ShardFacts.read(folder).count:
        return []
    with Shard(folder) as shard:
        return list(shard.records.ids(range(shard.count)).values())
