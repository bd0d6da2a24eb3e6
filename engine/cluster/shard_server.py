"""An actor of a cluster: some shards of an index, searched and scored where they lie.

It is a plain class; `server_group` runs it in a process of Ray's. Positions that it takes and gives
are those of the whole index; only in here are items numbered by the shards that it holds:

    index          shard 0: 0 1 2 3 | shard 1: 4 5 6 | shard 2: 7 8
    this server    shard 0: 0 1 2 3 |                  shard 2: 4 5
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hficma.types import Floats, Mask, Offsets, Positions

from ..bundle.bundle import Bundle
from ..encoder import EncodedQuery
from ..index.candidates import CandidateBatch, ShardCandidates, best_candidates
from ..index.filters import Filter, FilterCache
from ..index.index import Index, IndexRecords, open_shards, removed_numbers
from ..index.index_facts import SHARDS, IndexFacts
from ..index.shard import Shard
from ..opening import check_same_model, open_pool, open_scorer
from ..retrieval.certificate import ItemScores
from ..retrieval.filter_notes import filter_notes
from ..retrieval.timing import StageTimer
from ..runtimes.options import ExecutionKeywords, ExecutionOptions


@dataclass(frozen=True, kw_only=True)
class ServerTask:
    """What a server holds, and how it works on it."""

    index: Path
    """Folder of the index, at the same place on every machine."""
    facts: IndexFacts
    """Of the whole index."""
    files: Mapping[str, str]
    """Path in the index to SHA-256, of this server's shards."""
    shards: tuple[int, ...]
    """Numbers of the shards that it holds, rising."""
    offsets: Offsets
    """(shards + 1,) the position of each shard's first item in the whole index, and N."""
    bundle: Path
    """Folder of the bundle, at the same place on every machine."""
    gpu_memory: float | None
    """GiB of a GPU for the shards; None takes half of what is free."""
    execution: ExecutionKeywords
    """How to run the branches."""


class FirstCandidates(NamedTuple):
    """The best items of some shards for Q queries, by the prefilter."""

    candidates: list[ShardCandidates]
    """(Q,) the best of each query, positions in the whole index."""
    errors: list[float]
    """(Q,) δ: how far the scores may be from g; inf where items may have been skipped."""
    total: int
    """Items that may answer."""


class RemainingCandidates(NamedTuple):
    """The best items of some shards for one query by exact g, without those of its first batch."""

    candidates: ShardCandidates
    """Positions in the whole index, by falling g."""
    rounding: float
    """How far the scores may be from g."""


class ServerScores(NamedTuple):
    """Scores of a server's items."""

    scores: list[ItemScores]
    """Of each query's items, in their order."""
    gather_seconds: float
    """Seconds of copying items, summed over threads."""


class ServerState(NamedTuple):
    """What a server says of itself."""

    process: int
    """Its process id."""
    items: int
    """Items that it holds."""
    bytes: int
    """Bytes of its shards' files."""


class ShardServer:
    """Searches and scores some shards of an index; any number of threads may ask it.

    Args:
        task: what it holds.

    Raises:
        ArtifactError: a shard or the bundle is missing or damaged.
    """

    def __init__(self, task: ServerTask) -> None:
        options = ExecutionOptions(**task.execution).with_thread_count()
        self._index = _open_part(task)
        self._bundle = Bundle.open(task.bundle, options)
        check_same_model(self._index, self._bundle)
        self._pool = open_pool(options.thread_count)
        self._scorer = open_scorer(self._index, self._bundle, options, self._pool, task.gpu_memory)
        self._offsets = task.offsets
        self._place = {shard: place for place, shard in enumerate(task.shards)}
        # Where each of the index's shards begins here, -1 for those that others hold.
        self._starts = np.full(len(task.offsets) - 1, -1, dtype=np.int64)
        self._starts[list(task.shards)] = self._index.shard_offsets[:-1]
        self._masks = FilterCache[list[Mask | None]]()

    def state(self) -> ServerState:
        """Say that this server is there, and what it holds."""
        size = sum(shard.bytes for shard in self._index.shards)
        return ServerState(os.getpid(), self._index.item_count, size)

    def filter_notes(self, filter: Filter) -> tuple[str, ...]:
        """Return what there is to say of a filter on the items that lie here."""
        return filter_notes(filter, self._index)

    def first_candidates(
        self, shards: Sequence[int], vectors: Floats, count: int, filter: Filter | None
    ) -> FirstCandidates:
        """Return the best `count` + 1 items of some shards for each of Q queries.

        One more than are returned in the end, as each shard gives: the first that is left over
        bounds all others.

        Args:
            shards: numbers of shards that it holds.
            vectors: (Q, D_g) float32.
            count: K, candidates of each query.
            filter: which items may answer.
        """
        masks = self._masks.get(filter, self._index.filter_masks)
        places = [self._place[shard] for shard in shards]

        def search(place: int) -> list[ShardCandidates]:
            """Search one shard for all queries."""
            return self._index.shards[place].prefilter.search(vectors, count + 1, masks[place])

        # Each query's candidates lie one list a shard; their positions become the index's.
        by_shard = list(self._pool.map(search, places))
        merged = []
        for query in range(len(vectors)):
            lists = [
                ShardCandidates(one[query].positions + self._offsets[shard], one[query].scores)
                for shard, one in zip(shards, by_shard, strict=True)
            ]
            merged.append(best_candidates(lists, count + 1))
        errors = [
            max(self._index.shards[place].prefilter.facts.score_error(vector) for place in places)
            for vector in vectors
        ]
        total = 0
        for place in places:
            mask = masks[place]
            total += self._index.shards[place].count if mask is None else int(mask.sum())
        return FirstCandidates(merged, errors, total)

    def score_queries(
        self,
        batch: Sequence[EncodedQuery],
        numbers: Sequence[int],
        items: Sequence[Positions],
    ) -> ServerScores:
        """Score items that lie here, as `Scorer` does.

        Args:
            batch: the queries that are searched together.
            numbers: (Q,) of those in the batch that have items here.
            items: (Q,) the items of each of them, (K,) positions in the whole index.
        """
        timer = StageTimer()
        batches = [CandidateBatch(self._here(positions), -np.inf) for positions in items]
        queries = [batch[number] for number in numbers]
        # Exact scores of all: which are among the best of all machines is not known here.
        scorer = self._scorer.prepare(queries, batches, timer, max(map(len, items), default=1))
        scores = [scorer.score(number, batch.items) for number, batch in enumerate(batches)]
        return ServerScores(scores, timer.seconds("gather"))

    def remaining_candidates(
        self,
        shards: Sequence[int],
        vector: Floats,
        excluded: Positions,
        count: int,
        filter: Filter | None,
    ) -> RemainingCandidates:
        """Return the best `count` items of some shards by exact g, which costs a scan of them.

        Args:
            shards: numbers of shards that it holds.
            vector: (D_g,) of the query.
            excluded: (K,) positions in the whole index that came in the first batch.
            count: items to return.
            filter: which items may answer.
        """
        masks = self._masks.get(filter, self._index.filter_masks)

        def best_of(shard: int) -> ShardCandidates:
            place = self._place[shard]
            first, stop = self._offsets[shard : shard + 2]
            held, mask = self._index.shards[place], masks[place]
            eligible = np.ones(held.count, bool) if mask is None else mask.copy()
            eligible[excluded[(excluded >= first) & (excluded < stop)] - first] = False
            positions = np.flatnonzero(eligible)
            scores = held.prefilter.scores(vector)[positions]
            # By falling score, then by position, as one machine sorts the whole index.
            order = np.argsort(-scores, kind="stable")[:count]
            return ShardCandidates(positions[order] + first, scores[order])

        rounding = max(
            self._index.shards[self._place[shard]].prefilter.rounding_error(vector)
            for shard in shards
        )
        lists = list(self._pool.map(best_of, shards))
        return RemainingCandidates(best_candidates(lists, count), rounding)

    def _here(self, positions: Positions) -> Positions:
        """Return positions in the whole index as those in the shards that are held here."""
        shard = np.searchsorted(self._offsets, positions, side="right") - 1
        assert (self._starts[shard] >= 0).all()
        return self._starts[shard] + positions - self._offsets[shard]


def listed_files(index: IndexRecords, shards: Sequence[int]) -> dict[str, str]:
    """Return path in an index to SHA-256, of the files of some of its shards.

    Args:
        index: open.
        shards: their numbers.
    """
    return {
        f"{SHARDS}/{index.facts.shards[shard]}/{file}": digest
        for shard in shards
        for file, digest in (index.shards[shard].listed or {}).items()
    }


def _open_part(task: ServerTask) -> Index:
    """Open the shards that a server holds as an index of their own."""
    names = tuple(task.facts.shards[number] for number in task.shards)
    facts = replace(task.facts, shards=names, removed=())
    shards = open_shards(task.index, facts, task.files, Shard)
    # Every removed number is some item's: those of other servers' items are left out.
    here = [number for shard in shards for number in removed_numbers(task.facts, shard)]
    return Index(task.index, replace(facts, removed=tuple(here)), shards)
