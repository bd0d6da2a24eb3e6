"""Searching over shard servers: one machine's answer, in two rounds.

    head                                    servers, each for its shards
    encode the queries
    vectors                         ──────▶ the best K + 1 by the prefilter, δ
    the best K of all, and b        ◀──────
    queries, each server's items    ──────▶ S of them, where their encodings lie
    ranking and certificate         ◀──────
    records of the hits

The merge takes the same lists, in the same order, as one machine does with its own shards
(`merge_candidates`), an item's score does not depend on its company (`reranking`), and b contains
the largest δ of all servers: so ranks, scores and what is proved are the same.

An exact search goes on with rounds of remaining items, as many as the proof takes. Where shards are
missing, the answer is that of the others, and no rank is proved: a missing item could stand first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hficma.errors import ArtifactError, InputError
from hficma.types import Floats, Positions

from ..bundle.bundle import Bundle
from ..encoder import EncodedQuery, ModelInput, encode_queries
from ..index.candidates import CandidateBatch, best_candidates, merge_candidates
from ..index.filters import Filter, FilterCache
from ..index.index import IndexRecords
from ..results import Answer
from ..retrieval.certificate import ItemScores, Ranking, rank_with_certificate
from ..retrieval.filter_notes import filter_notes
from ..retrieval.search import SearchOptions, build_answers
from ..retrieval.timing import StageTimer
from .placement import Route
from .server_group import Question, ServerGroup, ServersGone
from .shard_server import FirstCandidates, RemainingCandidates, ServerScores

REMAINING = 4096
"""Remaining items that the first round of an exact search asks of each server; each later round
asks four times as many, since a server scans its shards for any number of them."""


class ClusterSearcher:
    """Searches an index that shard servers hold; any number of threads may share it.

    Args:
        index: open here, for records and for what filters say.
        bundle: of the index's model, encodes queries.
        group: the servers; closed with the searcher.
    """

    def __init__(self, index: IndexRecords, bundle: Bundle, group: ServerGroup) -> None:
        self._index = index
        self._bundle = bundle
        self._group = group
        self._notes = FilterCache[tuple[str, ...]]()

    def search(
        self, inputs: Sequence[ModelInput], options: SearchOptions, timer: StageTimer
    ) -> list[Answer]:
        """Answer a batch of queries; see `Searcher.search`."""
        if options.exact_precision:
            raise InputError("exact precision: is scored on one machine; search without a cluster")
        queries = encode_queries(self._bundle, self._index.facts.query_role, inputs)
        timer.end_stage("encode")
        notes = self._notes.get(options.filter, self._filter_notes)
        # A server that died between the rounds takes its candidates with it: the search begins
        # again with those that are left, at most once for each.
        while True:
            route = self._group.route
            if route.missing and not route.shards:
                raise ArtifactError(f"{self._index.path}: none of its shard servers answers now")
            search = _RoutedSearch(
                self._index, self._bundle, self._group, route, queries, options, timer
            )
            try:
                rankings, searched = search.run()
                break
            except ServersGone:
                continue
        share = 1.0
        if route.missing:
            rankings = [ranking._replace(certified=0) for ranking in rankings]
            missing = sum(self._index.shards[number].count for number in route.missing)
            share = 1.0 - missing / self._index.count
            notes = (
                f"searched {100 * share:.1f} % of the index: {missing:,} of {self._index.count:,} "
                "items are on machines that do not answer, so nothing is proved",
                *notes,
            )
        return build_answers(
            self._index, self._bundle, inputs, queries, rankings, searched=searched, share=share,
            notes=notes, options=options, timer=timer,
        )  # fmt: skip

    def close(self) -> None:
        """End the servers."""
        self._group.close()
        self._notes.clear()

    def _filter_notes(self, filter: Filter | None) -> tuple[str, ...]:
        """Return what there is to say of a filter."""
        if not filter:
            return ()
        # Where one server has nothing to say of it, all its words are known and something passes.
        # Only else are the records of all shards read here.
        try:
            asked = {
                server: Question("filter_notes", (filter,)) for server in self._group.route.shards
            }
            if not all(self._group.ask(asked).values()):
                return ()
        except ServersGone:
            pass  # the search will ask others
        return filter_notes(filter, self._index)


@dataclass(frozen=True)
class _RoutedSearch:
    """One try at a batch of queries, along one route."""

    index: IndexRecords
    bundle: Bundle
    group: ServerGroup
    route: Route
    queries: Sequence[EncodedQuery]
    options: SearchOptions
    timer: StageTimer

    def run(self) -> tuple[list[Ranking], int]:
        """Return each query's ranking, and how many items could have answered.

        Raises:
            ServersGone: a server of the route does not answer.
        """
        first_batches, searched = self._first_batches()
        self.timer.end_stage("prefilter")
        self.timer.add("gather", 0.0)  # answers name it even where nothing is gathered
        # Once into the store, from where every machine copies it once. Without the pixels: servers
        # read vectors and tables.
        reference = self.group.put([query._replace(model_input=None) for query in self.queries])
        numbers = list(range(len(self.queries)))
        first_scores = self._score(reference, numbers, [batch.items for batch in first_batches])
        rankings = [
            self._rank(number, first, scores, reference)
            for number, first, scores in zip(numbers, first_batches, first_scores, strict=True)
        ]
        self.timer.end_stage("rerank")
        return rankings, searched

    def _first_batches(self) -> tuple[list[CandidateBatch], int]:
        """Return each query's first candidates, and how many items could have answered."""
        vectors = np.stack([query.vector for query in self.queries])
        count = self.options.batch_size
        answers: dict[int, FirstCandidates] = self.group.ask(
            {
                server: Question("first_candidates", (shards, vectors, count, self.options.filter))
                for server, shards in self.route.shards.items()
            }
        )
        total = sum(answer.total for answer in answers.values())
        no_offsets = np.zeros(len(answers) + 1, np.int64)  # servers name the index's positions
        batches = [
            merge_candidates(
                [answer.candidates[number] for answer in answers.values()],
                no_offsets,
                count,
                total,
                max((answer.errors[number] for answer in answers.values()), default=0.0),
            )
            for number in range(len(self.queries))
        ]
        return batches, total

    def _rank(
        self, number: int, first: CandidateBatch, first_scores: ItemScores, reference: Any
    ) -> Ranking:
        """Rank the items for the query of a number in the batch."""

        def batches() -> Iterator[CandidateBatch]:
            yield first
            if first.upper_bound > -math.inf:
                yield from self._remaining(self.queries[number].vector, first.items)

        def score(items: Positions) -> ItemScores:
            if items is first.items:
                return first_scores
            return self._score(reference, [number], [items])[0]

        return rank_with_certificate(
            batches(), score, k=self.options.k, exact=self.options.exact,
            weights=self.bundle.score_weights,
        )  # fmt: skip

    def _score(
        self, reference: Any, numbers: Sequence[int], items: Sequence[Positions]
    ) -> list[ItemScores]:
        """Score items where they lie, all of a batch in one round.

        Args:
            reference: of the queries in Ray's store.
            numbers: of the queries to score in the batch.
            items: of each of them, positions in the index.
        """
        server_of = np.empty(len(self.index.shards), np.int64)
        for server, shards in self.route.shards.items():
            server_of[shards] = server
        holders = [server_of[self.index.locate(positions)[0]] for positions in items]
        parts = {
            server: {
                place: np.flatnonzero(of_query == server)
                for place, of_query in enumerate(holders)
                if (of_query == server).any()
            }
            for server in self.route.shards
        }
        answers: dict[int, ServerScores] = self.group.ask(
            {
                server: Question(
                    "score_queries",
                    (
                        reference,
                        [numbers[place] for place in part],
                        [items[place][rows] for place, rows in part.items()],
                    ),
                )
                for server, part in parts.items()
                if part
            }
        )
        scores = [ItemScores(*(np.zeros(len(one)) for _ in range(3))) for one in items]
        for server, answer in answers.items():
            self.timer.add("gather", answer.gather_seconds)
            for (place, rows), part_scores in zip(
                parts[server].items(), answer.scores, strict=True
            ):
                for whole, part_array in zip(scores[place], part_scores, strict=True):
                    whole[rows] = part_array
        return scores

    def _remaining(self, vector: Floats, excluded: Positions) -> Iterator[CandidateBatch]:
        """Yield every other item by falling exact g, as `Index.remaining_candidates` does."""
        size = self.options.batch_size
        done, depth = 0, max(REMAINING, 2 * size)
        while True:
            positions, scores, rounding, complete = self._best_remaining(vector, excluded, depth)
            # A batch needs the score that follows it: the last of those at hand waits, unless all
            # are there.
            while done < len(positions) if complete else done + size < len(positions):
                stop = done + size
                bound = float(scores[stop]) + rounding if stop < len(positions) else -math.inf
                yield CandidateBatch(positions[done:stop], bound)
                done = stop
            if complete:
                return
            depth *= 4

    def _best_remaining(
        self, vector: Floats, excluded: Positions, depth: int
    ) -> tuple[Positions, Floats, float, bool]:
        """Return the best `depth` of the remaining items, with their g.

        Returns:
            positions and scores by falling score; the scores' rounding; whether these are all.
        """
        filter = self.options.filter
        answers: dict[int, RemainingCandidates] = self.group.ask(
            {
                server: Question("remaining_candidates", (shards, vector, excluded, depth, filter))
                for server, shards in self.route.shards.items()
            }
        )
        lists = [answer.candidates for answer in answers.values()]
        complete = all(len(one.positions) < depth for one in lists)
        # Else behind the best `depth` may be items that a server left out.
        best = best_candidates(lists, None if complete else depth)
        rounding = max(answer.rounding for answer in answers.values())
        return *best, rounding, complete
