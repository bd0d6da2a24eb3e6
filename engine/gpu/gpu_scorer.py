"""Score on a GPU: a screen in 16 bits by fused kernels, and what may be an answer in float32.

Every candidate is scored by `kernels`, whose products are of 16-bit numbers; the items that may be
among the k best are scored again by the model's own pair scores in float32 without TF32, whose
short mantissa the bounds δ and ε of a certificate do not allow for. So answers and certificates are
those of float32 (`hficma.engine.retrieval.screening` proves it). The exact S_global, which ties and
certificates hang on, is summed on the host as ever, while the device works on the screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from torch import Tensor

from hficma.errors import InputError
from hficma.types import Floats64, Positions

from ..bundle.bundle import Bundle
from ..bundle.rounding import bundle_rounding_scale
from ..encoder import EncodedQuery
from ..index.candidates import CandidateBatch
from ..results import ErrorBound
from ..retrieval.certificate import ItemScores, RescoredItems
from ..retrieval.located_items import LocatedItems
from ..retrieval.scoring import BatchScorer, ScoreFunction
from ..retrieval.screening import BestItems, Choice, QueryState, ScreenBound, refine
from ..retrieval.timing import StageTimer
from .gpu_index import GpuIndex, require_full_float32
from .local_scores import LocalQueries, LocalScorer

REFINED = 64
"""Items of a query that are scored again at once: always as many, because libraries order their
sums by the shape of a product, and equal items must score equal bits. What is left of them is
filled with other items, of which the screen's error is learnt."""


class GpuScorer:
    """Scores queries against the items of an index on a GPU.

    Args:
        index: in the GPU's memory.
        bundle: of the index's model; carries its weights.

    Raises:
        InputError: this process lets torch shorten float32 products.
    """

    def __init__(self, index: GpuIndex, bundle: Bundle) -> None:
        require_full_float32()
        self._index = index
        self._weights = bundle.score_weights
        self.bound: ScreenBound | None = None
        """How far the screen may be from float32; None for a model without a local part."""
        self._local: LocalScorer | None = None
        if bundle.has_local and index.encodings is not None:
            self.bound = ScreenBound("fp16", bundle_rounding_scale(bundle))
            self._local = LocalScorer(index.encodings, bundle, index.index.facts.role)

    def close(self) -> None:
        """Release the GPU's memory, which is given back with the last tensor."""
        self._index.close()
        self._local = None

    def prepare(
        self,
        queries: Sequence[EncodedQuery],
        first_batches: Sequence[CandidateBatch],
        timer: StageTimer,
        k: int,
    ) -> BatchScorer:
        """Score the first candidates of all queries together, and later ones as they come.

        See `Scorer.prepare`.
        """
        batch = _Queries(
            queries,
            None if self._local is None else self._local.queries(queries),
            [QueryState(self._weights, k) for _ in queries],
        )
        # Queries with as many candidates are scored together: mostly all of them.
        counts = np.array([len(first.items) for first in first_batches])
        first_scores: dict[int, ItemScores] = {}
        for count in set(counts.tolist()):
            numbers = np.flatnonzero(counts == count)
            alike: list[int] = numbers.tolist()
            items = np.stack([first_batches[number].items for number in alike])
            first_scores |= zip(alike, self._score(batch, numbers, items), strict=True)

        def score(number: int, items: Positions) -> ItemScores:
            # The ranking begins with the very array of its first batch, which is scored already.
            if items is first_batches[number].items:
                return first_scores[number]
            return self._score(batch, np.array([number]), items[None])[0]

        def rescore(number: int) -> RescoredItems | None:
            if batch.encodings is None or self.bound is None:
                return None
            exact = partial(self._refined, batch.encodings, {batch.states[number].best: number})
            return batch.states[number].rescored(self.bound, exact, step=REFINED)

        return BatchScorer(score, rescore)

    def prepare_exact(self, queries: Sequence[EncodedQuery], timer: StageTimer) -> ScoreFunction:
        """Refuse: exact tokens stay on the disk; see `Scorer`."""
        raise InputError("exact precision: is scored on the processors; search on the device cpu")

    @property
    def screen_bound(self) -> ErrorBound | None:
        """Return how far the screen in float16 may be off; see `Scorer`."""
        return None if self.bound is None else self.bound.fact

    def _score(self, batch: _Queries, numbers: Positions, items: Positions) -> list[ItemScores]:
        """Score queries (q,) with items of their own (q, K): exactly what may be among the best."""
        screened: Tensor | None = None
        if batch.encodings is not None and self._local is not None and items.size:
            screened = self._local.screen(batch.encodings, numbers, items)
        # While the device works on the screen.
        global_ = np.empty(items.shape)
        for row, number in enumerate(numbers):
            located = LocatedItems.of_index(self._index.index, items[row])
            global_[row] = located.global_scores(batch.queries[number].vector)
        states = [batch.states[number] for number in numbers]
        if screened is None or batch.encodings is None or self.bound is None:
            local = np.zeros(items.shape)
            totals = self._weights.total(global_, local)
            return [
                state.add_exact(ItemScores(*rows))
                for state, *rows in zip(states, totals, global_, local, strict=True)
            ]
        local = screened.cpu().numpy().astype(np.float64)
        batches = [
            state.add_screened(*rows)
            for state, *rows in zip(states, items, global_, local, strict=True)
        ]
        number_of = {state.best: number for state, number in zip(states, numbers, strict=True)}
        exact = partial(self._refined, batch.encodings, number_of)
        refine(batches, self.bound, exact, step=REFINED)
        return [one.scores for one in batches]

    def _refined(
        self,
        encodings: LocalQueries,
        number_of: Mapping[BestItems, int],
        choices: Sequence[Choice],
    ) -> list[Floats64]:
        """Score what was chosen in float32.

        Args:
            encodings: of all queries of the batch.
            number_of: each query's number there, by its best items.
            choices: of some of them.
        """
        assert self._local is not None
        numbers, lines = [], []
        for batch, places in choices:
            chosen = batch.items[places]
            for start in range(0, len(chosen), REFINED):
                numbers.append(number_of[batch.best])
                # Always REFINED of them: the items of a line that is shorter come again.
                lines.append(np.resize(chosen[start : start + REFINED], REFINED))
        refined = self._local.refine(encodings, np.array(numbers), np.stack(lines))
        # A choice's lines are full but for its last one.
        counts = [len(places) for _, places in choices]
        firsts = REFINED * np.cumsum([0, *(-(-count // REFINED) for count in counts)])
        flat = refined.flatten()
        return [
            flat[first : first + count] for first, count in zip(firsts[:-1], counts, strict=True)
        ]


class _Queries(NamedTuple):
    """The queries of one batch."""

    queries: Sequence[EncodedQuery]
    encodings: LocalQueries | None
    """On the device; None for a model without a local part."""
    states: Sequence[QueryState]
    """What is known of the items of each."""
