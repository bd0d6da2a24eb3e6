"""Run a search: candidates from the index, exact scores, a proof, and the records of the hits."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import numpy as np

from hficma.errors import InputError
from hficma.sureness import sureness
from hficma.text.vocabulary import RecipeIds
from hficma.types import Mask, Positions

from ..encoder import EncodedQuery, ModelInput, QueryEncoder, encode_queries
from ..index.candidates import CandidateBatch
from ..index.filters import Filter, FilterCache
from ..index.index import Index, IndexRecords
from ..results import Answer, ErrorBound
from .certificate import EPSILON, EPSILON_PAIRS, ItemScores, Ranking, rank_with_certificate
from .filter_notes import filter_notes
from .hits import build_hits
from .located_items import LocatedItems
from .scoring import BatchScorer, ScoreFunction, Scorer
from .timing import StageTimer

if TYPE_CHECKING:
    from ..bundle.bundle import Bundle

SURVIVORS = 4
"""Items that are scored again by exact tokens, for each rank of the answer: tokens in int4 agree in
99 of 100 first ten with exact ones, so what belongs there stands among the first forty."""


EPSILON_BOUND = ErrorBound(precision="fp32", epsilon=EPSILON, pairs=EPSILON_PAIRS)
"""What every certificate of S_local allows for."""


class SearchOptions(NamedTuple):
    """What is the same for every query of a batch."""

    k: int
    """Items to return."""
    candidates: int
    """Items to re-rank; at least k are."""
    exact: bool
    """Whether to re-rank more, until all k ranks are proved."""
    filter: Filter | None
    """Which items may answer."""
    keep_query: bool = False
    """Whether answers carry what was computed of their query."""
    exact_precision: bool = False
    """Whether the best are scored again by the exact tokens that the index keeps."""

    def checked(self) -> Self:
        """Return the options, with counts of any integer type as `int`.

        Raises:
            InputError: a count is no whole number, or less than 1.
        """
        return self._replace(
            k=whole_number("k", self.k), candidates=whole_number("candidates", self.candidates)
        )

    @property
    def batch_size(self) -> int:
        """Return how many items are scored before the first look at what is proved."""
        return max(self.k, self.candidates)


class AllowedItems(NamedTuple):
    """Which items may answer."""

    masks: Sequence[Mask | None]
    """Per shard (N,); None where all may."""
    total: int
    """How many they are."""
    notes: tuple[str, ...]
    """What there is to say of the filter."""


class BatchSearcher(Protocol):
    """Answers batches of queries from one index: `Searcher` here, or over several machines."""

    def search(
        self, inputs: Sequence[ModelInput], options: SearchOptions, timer: StageTimer
    ) -> list[Answer]:
        """Answer a batch of queries; see `Searcher.search`."""

    def close(self) -> None:
        """Release what the searches need; none may run any more."""


class Searcher:
    """Searches one index with queries that were read; any number of threads may share it.

    Args:
        index: that is searched.
        bundle: of the index's model, encodes queries.
        scorer: scores the index's items.
        pool: searches the index's shards, one a task.
        encoder: encodes queries; None runs the bundle's graphs on arrays of the host.
    """

    def __init__(
        self,
        index: Index,
        bundle: Bundle,
        scorer: Scorer,
        pool: Executor,
        encoder: QueryEncoder | None = None,
    ) -> None:
        self._encode: QueryEncoder = encoder or partial(encode_queries, bundle)
        self._index = index
        self._bundle = bundle
        self._scorer = scorer
        self._pool = pool
        self._allowed = FilterCache[AllowedItems]()

    def search(
        self, inputs: Sequence[ModelInput], options: SearchOptions, timer: StageTimer
    ) -> list[Answer]:
        """Answer a batch of queries.

        Args:
            inputs: what the branches read of each query, at least one.
            options: of all of them.
            timer: counts the stages; `total` is what it counts when the last one ends.
        """
        if options.exact_precision and not self._index.exact_item_arrays:
            raise InputError(
                f"{self._index.path}: keeps no exact tokens to score the best again by; search "
                "without, or index again with exact tokens"
            )
        queries = self._encode(self._index.facts.query_role, inputs)
        timer.end_stage("encode")
        allowed = self._allowed.get(options.filter, self._allowed_items)
        first_batches = self._index.first_candidates(
            np.stack([query.vector for query in queries]),
            options.batch_size,
            allowed.masks,
            self._pool,
        )
        timer.end_stage("prefilter")
        timer.add("gather", 0.0)  # answers name it even where nothing is gathered
        rank_options = options._replace(
            k=SURVIVORS * options.k if options.exact_precision else options.k,
            exact=options.exact and not options.exact_precision,
        )
        scorer = self._scorer.prepare(queries, first_batches, timer, rank_options.k)
        rankings = [
            self._rank(number, query, first, scorer.score, allowed, rank_options)
            for number, (query, first) in enumerate(zip(queries, first_batches, strict=True))
        ]
        rankings, screen = self._settled(rankings, scorer)
        if options.exact_precision:
            score = self._scorer.prepare_exact(queries, timer)
            rankings = [
                self._rank_again(number, query, first, ranking, score, allowed, options)
                for number, (query, first, ranking) in enumerate(
                    zip(queries, first_batches, rankings, strict=True)
                )
            ]
        timer.end_stage("rerank")
        return build_answers(
            self._index, self._bundle, inputs, queries, rankings,
            searched=allowed.total, notes=allowed.notes, options=options, timer=timer,
            screen=screen,
        )  # fmt: skip

    def close(self) -> None:
        """Release the scorer, the masks of filters, and what encodes queries on a GPU."""
        self._scorer.close()
        self._encode = partial(encode_queries, self._bundle)
        self._allowed.clear()

    def _rank(
        self,
        number: int,
        query: EncodedQuery,
        first: CandidateBatch,
        score: ScoreFunction,
        allowed: AllowedItems,
        options: SearchOptions,
    ) -> Ranking:
        """Rank the items for the query of a number in its batch."""

        def batches() -> Iterator[CandidateBatch]:
            yield first
            # Listing what remains costs a scan of the index: only where something remains, and only
            # when the ranking asks for more.
            if first.upper_bound > -math.inf:
                yield from self._index.remaining_candidates(
                    query.vector, first.items, options.batch_size, allowed.masks
                )

        def score_items(items: Positions) -> ItemScores:
            return score(number, items)

        return rank_with_certificate(
            batches(), score_items, k=options.k, exact=options.exact,
            weights=self._bundle.score_weights,
        )  # fmt: skip

    def _settled(
        self, rankings: list[Ranking], scorer: BatchScorer
    ) -> tuple[list[Ranking], ErrorBound | None]:
        """Return rankings that are right by one ε of the screen, and that ε.

        A later batch, another query of these, or another search may have widened it since an item
        was left behind.
        """
        while True:
            # Read first: whatever widens it from here on is not what the answers name.
            screen = self._scorer.screen_bound
            again = [scorer.rescore(number) for number in range(len(rankings))]
            if not any(again):
                return rankings, screen
            rankings = [
                ranking if items is None else ranking.rescored(items)
                for ranking, items in zip(rankings, again, strict=True)
            ]

    def _rank_again(
        self,
        number: int,
        query: EncodedQuery,
        first: CandidateBatch,
        ranking: Ranking,
        score: ScoreFunction,
        allowed: AllowedItems,
        options: SearchOptions,
    ) -> Ranking:
        """Rank the best of a ranking by exact tokens.

        What was left behind has no exact score, only its g: the bound of the certificate holds for
        it as for items that were never scored, and ranks are proved for exact tokens.
        """
        rest = np.setdiff1d(first.items, ranking.items)
        bound = first.upper_bound
        if len(rest):
            left_behind = LocatedItems.of_index(self._index, rest).global_scores(query.vector)
            bound = max(bound, float(left_behind.max()))
        again = self._rank(
            number, query, CandidateBatch(ranking.items, bound), score, allowed, options
        )
        # Every item that was scored counts, and the sureness was learnt from all of them.
        return again if again.scored > ranking.scored else again._replace(totals=ranking.totals)

    def _allowed_items(self, filter: Filter | None) -> AllowedItems:
        """Return which items pass a filter."""
        notes = filter_notes(filter, self._index) if filter else ()
        masks = self._index.filter_masks(filter)
        return AllowedItems(masks, self._index.candidate_count(masks), notes)


def build_answers(
    index: IndexRecords,
    bundle: Bundle,
    inputs: Sequence[ModelInput],
    queries: Sequence[EncodedQuery],
    rankings: Sequence[Ranking],
    *,
    searched: int,
    share: float = 1.0,
    notes: tuple[str, ...],
    options: SearchOptions,
    timer: StageTimer,
    screen: ErrorBound | None = None,
) -> list[Answer]:
    """Read the records of ranked items, and put the answers together.

    Args:
        index: whose items were ranked.
        bundle: of the index's model.
        inputs: what the branches read of each of Q queries.
        queries: (Q,) what was computed of them.
        rankings: (Q,) the best items of each.
        searched: items that could have answered.
        share: of the index's items, how many of them were searched.
        notes: what there is to say of the search.
        options: of all queries.
        timer: counts the reading as `records`.
        screen: how far the scores may be off by which candidates were screened; None where all were
            scored in float32.
    """
    hits = build_hits(index, rankings, has_local=bundle.has_local)
    timer.end_stage("records")
    precision: str | None = None
    if bundle.has_local:
        precision = "fp16" if options.exact_precision else index.facts.encoding_precision
    bounds = (EPSILON_BOUND,) if bundle.has_local else ()
    if screen is not None:
        bounds = (*bounds, screen)
    facts = bundle.sureness
    calibration = None if facts is None else facts.of(index.facts.query_role)
    milliseconds = timer.milliseconds()
    return [
        Answer(
            hits=query_hits,
            certified=ranking.certified,
            scored=ranking.scored,
            searched=searched,
            share=share,
            milliseconds=milliseconds,
            verified=index.verified,
            of=index.facts.of,
            notes=(*_query_notes(one), *notes),
            sureness=None
            if calibration is None or not ranking.scored
            else sureness(ranking.totals, searched, calibration),
            query=query if options.keep_query else None,
            stored_precision=precision,
            error_bounds=bounds,
        )
        for one, query, ranking, query_hits in zip(inputs, queries, rankings, hits, strict=True)
    ]


def whole_number(name: str, value: int) -> int:
    """Return an option that counts something as an `int`.

    Raises:
        InputError: it is no whole number, or less than 1.
    """
    try:
        number = operator.index(value)
    except TypeError as error:
        raise InputError(f"{name} is {value!r}: must be a whole number") from error
    if number < 1:
        raise InputError(f"{name} is {number}: must be at least 1")
    return number


def _query_notes(model_input: ModelInput) -> tuple[str, ...]:
    """Return what of a query the model did not read, a note for each line."""
    if not isinstance(model_input, RecipeIds):
        return ()
    return tuple(f"not read, unknown or past the limit: {line}" for line in model_input.left_out)
