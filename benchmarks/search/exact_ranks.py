"""The true item's rank, found exactly without scoring everything.

S = w_g g + w_l l with 0 <= l <= 1, so no item can pass a score that its ceiling w_g g + w_l does
not reach. The true item is scored first, then the others by falling ceiling while it is above
the true item's score, up to a budget. Past the budget the rank lies between two numbers.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hficma.engine import Bundle
from hficma.engine.encoder import EncodedQuery, raise_level
from hficma.engine.index.candidates import dot_error
from hficma.engine.index.index import Index
from hficma.engine.index.item_encoding import LEVELS, BatchEncodings, Role
from hficma.engine.retrieval.certificate import EPSILON, ItemScores
from hficma.engine.retrieval.located_items import LocatedItems
from hficma.engine.retrieval.reranking import Reranker
from hficma.engine.retrieval.timing import StageTimer
from hficma.metrics import Figures, figures

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]

PROBES = 5
"""Queries that the cost of a pair is measured with."""
PROBE_ITEMS = 256
FEWEST = 50
"""Queries whose ranks are found in any case: fewer tell nothing."""


class Cost(NamedTuple):
    """Seconds."""

    query: float
    """To prepare one, and for its bounds."""
    pair: float
    """To score one."""


class Found(NamedTuple):
    """What is known of one query's true item."""

    low: int
    """Its rank is at least this, from 1; ties count against it."""
    high: int
    """And at most this; equal to `low` where the search ended within its budget."""
    by_global: int
    """Its rank by S_global alone."""
    beaten_at: Positions
    """Places, by falling ceiling from 0, of the items found not to score below it."""
    scored: int
    """Items scored, the true one not counted."""

    def reranked(self, candidates: int) -> int:
        """Its rank where only the best by S_global are scored with S, the rest behind them.

        As `hficma.metrics.prefiltered_ranks`; holds for candidates within the budget.
        """
        if self.by_global > candidates:
            return self.by_global
        return 1 + int(np.count_nonzero(self.beaten_at < candidates - 1))


def search_rank(
    own: float,
    own_ceiling: float,
    ceilings: Floats,
    score: Callable[[Positions], Floats],
    budget: int,
) -> Found:
    """Rank an item among others by scoring only those that may pass it.

    Args:
        own: its score.
        own_ceiling: the most it could have scored.
        ceilings: (N,) the most that each other item can score, rising with its S_global.
        score: positions (n,) to scores.
        budget: items that may be scored.
    """
    order = np.argsort(-ceilings, kind="stable")
    possible = int(np.count_nonzero(ceilings >= own))
    chosen = order[: min(possible, budget)]
    beaten = np.flatnonzero(score(chosen) >= own) if len(chosen) else np.empty(0, np.int64)
    low = 1 + len(beaten)
    return Found(
        low=low,
        high=low + possible - len(chosen),
        by_global=1 + int(np.count_nonzero(ceilings >= own_ceiling)),
        beaten_at=beaten,
        scored=len(chosen),
    )


class PairScorer:
    """Scores stored queries of one index against the items of another, as the engine does.

    Args:
        bundle: opened with one thread, as the engine's scorer.
        items: the index whose items answer.
        queries: the index of the other role whose items ask.
        pool: where tiles run.
    """

    def __init__(
        self, bundle: Bundle, items: Index, queries: Index, pool: ThreadPoolExecutor
    ) -> None:
        self._bundle, self._items, self._queries = bundle, items, queries
        self._weights = bundle.score_weights
        self._reranker = Reranker(bundle, items.facts.role, pool, self._weights)
        self.vectors = np.concatenate([part.vectors for part in items.item_arrays])

    def query(self, position: int) -> EncodedQuery:
        """An item of `queries` as a query, from the sides that its index keeps."""
        number, place = self._queries.locate(np.array([position]))
        part = self._queries.item_arrays[int(number[0])]
        vector = np.array(part.vectors[place[0]])
        if part.encodings is None:
            return EncodedQuery(vector, None)
        length = int(part.encodings.lengths[place[0]])
        arrays = {}
        for name in LEVELS[part.encodings.level]:
            row = part.encodings.arrays[name].shape[1:]
            lead = {"mean": (1,), "table": (1, part.encodings.heads, length)}.get(name, (1, length))
            arrays[name] = np.empty((*lead, *row), np.float32)
        part.encodings.gather(place, length, arrays)
        role: Role = self._queries.facts.role
        encodings = BatchEncodings(np.array([length]), arrays)
        return EncodedQuery(vector, raise_level(self._bundle, role, encodings, "tables"))

    def score(self, query: EncodedQuery, items: Positions) -> ItemScores:
        """S of a query and some items."""
        located = LocatedItems.of_index(self._items, items)
        return self._reranker.score(query, located, StageTimer())

    def ceilings(self, query: EncodedQuery) -> Floats:
        """The most that each item (N,) can score, rounding included."""
        global_: Floats = (self.vectors @ query.vector).astype(np.float64)
        norms = float(np.linalg.norm(query.vector)), self._largest_norm
        slack = self._weights.global_ * dot_error(len(query.vector), *norms)
        return self._weights.total(global_, np.full_like(global_, 1 + EPSILON)) + slack

    @property
    def _largest_norm(self) -> float:
        return max(shard.prefilter.facts.largest_norm for shard in self._items.shards)

    def cost(self, positions: Sequence[int]) -> Cost:
        """Medians over a few queries, the first one not counted."""
        some = np.arange(min(PROBE_ITEMS, self._items.count))
        found = []
        for position in [positions[0], *positions[:PROBES]]:
            began = time.perf_counter()
            query = self.query(position)
            self.score(query, some[:1])
            np.argsort(-self.ceilings(query), kind="stable")
            prepared = time.perf_counter()
            self.score(query, some)
            found.append((prepared - began, (time.perf_counter() - prepared) / len(some)))
        queries, pairs = zip(*found[1:], strict=True)
        return Cost(statistics.median(queries), statistics.median(pairs))


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Ranks of one direction in one bag."""

    found: tuple[Found, ...]
    """By query."""
    budget: int
    """Items that were scored at most for one query."""
    items: int
    """In the bag."""

    @property
    def unresolved(self) -> int:
        """Queries of which only "rank > r" is known."""
        return sum(item.low != item.high for item in self.found)

    @property
    def pairs(self) -> int:
        """Pairs scored."""
        return sum(1 + item.scored for item in self.found)

    def bounds(self) -> tuple[Figures, Figures]:
        """The best and the worst that medR and R@K can be; equal where they are exact."""
        low = np.array([item.low for item in self.found])
        high = np.array([item.high for item in self.found])
        return figures(low), figures(high)

    def by_global(self) -> Figures:
        """By S_global alone."""
        return figures(np.array([item.by_global for item in self.found]))

    def reranked(self, candidates: int) -> Figures:
        """Where only the best by S_global are scored with S."""
        return figures(np.array([item.reranked(candidates) for item in self.found]))


def direction_ranks(
    scorer: PairScorer,
    true: Sequence[tuple[int, int]],
    budget: int,
    *,
    on_done: Callable[[int], None] = lambda count: None,
) -> Ranks:
    """Rank the true item of every query, within a budget.

    Args:
        scorer: of the direction.
        true: (position of the query, position of its true item).
        budget: items scored for one query at most; all of them gives exact ranks.
        on_done: told of queries done.
    """
    found = []
    for position, partner in true:
        query = scorer.query(position)
        own = float(scorer.score(query, np.array([partner])).total[0])
        ceilings = scorer.ceilings(query)
        others = np.delete(np.arange(len(ceilings)), partner)

        def score(
            chosen: Positions, query: EncodedQuery = query, others: Positions = others
        ) -> Floats:
            return scorer.score(query, others[chosen]).total

        found.append(search_rank(own, ceilings[partner], ceilings[others], score, budget))
        on_done(1)
    return Ranks(found=tuple(found), budget=budget, items=len(scorer.vectors))


def table_ranks(
    by_photo: PairScorer,
    by_recipe: PairScorer,
    true: Sequence[tuple[int, int]],
    *,
    on_done: Callable[[int], None] = lambda count: None,
) -> tuple[Ranks, Ranks]:
    """Rank the true items of both directions from one table of all pairs: S has no direction.

    Args:
        by_photo: scores photos against the recipes.
        by_recipe: the other way round; only its bounds are used.
        true: (position of the photo, position of its recipe).
        on_done: told of photos done.

    Returns:
        photo to recipe, and recipe to photo.
    """
    everything = np.arange(len(by_photo.vectors))
    table = np.empty((len(true), len(everything)))
    to_recipe, to_photo = [], []
    for row, (photo, recipe) in enumerate(true):
        query = by_photo.query(photo)
        table[row] = by_photo.score(query, everything).total
        to_recipe.append(_whole(table[row], by_photo.ceilings(query), recipe))
        on_done(1)
    photos = np.array([photo for photo, _ in true])
    for row, (_, recipe) in enumerate(true):
        ceilings = by_recipe.ceilings(EncodedQuery(by_photo.vectors[recipe], None))[photos]
        to_photo.append(_whole(table[:, recipe], ceilings, row))
    count = len(everything)
    return (
        Ranks(found=tuple(to_recipe), budget=count, items=count),
        Ranks(found=tuple(to_photo), budget=len(true), items=len(true)),
    )


def _whole(scores: Floats, ceilings: Floats, true: int) -> Found:
    """What is known where every item (N,) has its score."""
    others = np.delete(np.arange(len(scores)), true)
    order = others[np.argsort(-ceilings[others], kind="stable")]
    beaten = np.flatnonzero(scores[order] >= scores[true])
    by_global = 1 + int(np.count_nonzero(ceilings[others] >= ceilings[true]))
    return Found(1 + len(beaten), 1 + len(beaten), by_global, beaten, len(others))


def affordable(queries: int, items: int, cost: Cost, seconds: float) -> int:
    """Items a query that can be scored in about `seconds`: a power of two, so that reruns agree.

    Args:
        queries: how many.
        items: no budget is larger.
        cost: of one.
        seconds: for all queries.
    """
    possible = (seconds / queries - cost.query) / cost.pair
    return min(items, 1 << max(0, int(math.log2(max(1.0, possible)))))


def affordable_queries(queries: int, items: int, cost: Cost, seconds: float) -> int:
    """Queries that can be scored with all items in about `seconds`, but at least `FEWEST`."""
    possible = int(seconds / (cost.query + items * cost.pair))
    return min(queries, max(FEWEST, possible // FEWEST * FEWEST))
