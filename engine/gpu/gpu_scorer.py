"""Score on a GPU: a screen in 16 bits by fused kernels, and what may be an answer in float32.

Every candidate is scored by `kernels`, whose products are of 16-bit numbers; the items that may be
among the k best are scored again by the model's own pair scores in float32 without TF32, whose
short mantissa the bounds δ and ε of a certificate do not allow for. So answers and certificates are
those of float32 (`hficma.engine.retrieval.screening` proves it). The exact S_global, which ties and
certificates hang on, is summed on the host as ever, while the device works on the screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from hficma.errors import InputError
from hficma.types import Floats64, Positions

from ..bundle.bundle import Bundle
from ..bundle.rounding import bundle_rounding_scale
from ..encoder import EncodedQuery
from ..index.candidates import CandidateBatch
from ..results import ErrorBound
from ..retrieval.certificate import ItemScores
from ..retrieval.located_items import LocatedItems
from ..retrieval.scoring import ScoreFunction
from ..retrieval.screening import ScreenBound, largest, to_refine
from ..retrieval.timing import StageTimer
from .gpu_index import GpuIndex, require_full_float32
from .local_scores import LocalQueries, LocalScorer

REFINED = 64
"""Items of a query that are scored again at once: always as many, because libraries order their
sums by the shape of a product, and equal items must score equal bits. What is left of them is
filled with other items, of which the screen's error is learnt."""


@dataclass
class QueryState:
    """A query and what is known of its best items."""

    query: EncodedQuery
    number: int
    """Its place in the batch."""
    best: Floats64
    """The k largest S that were scored exactly, in any order; fewer at first."""


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
    ) -> ScoreFunction:
        """Score the first candidates of all queries together, and later ones as they come.

        See `Scorer.prepare`.
        """
        encodings = None if self._local is None else self._local.queries(queries)
        states = [QueryState(query, i, np.empty(0)) for i, query in enumerate(queries)]
        # Queries with as many candidates are scored together: mostly all of them.
        counts = [len(batch.items) for batch in first_batches]
        first_scores: dict[int, ItemScores] = {}
        for count in set(counts):
            alike = [state for state in states if counts[state.number] == count]
            items = np.stack([first_batches[state.number].items for state in alike])
            scores = self._score(encodings, alike, items, k)
            first_scores |= zip((state.number for state in alike), scores, strict=True)

        def score(number: int, items: Positions) -> ItemScores:
            # The ranking begins with the very array of its first batch, which is scored already.
            if items is first_batches[number].items:
                return first_scores[number]
            return self._score(encodings, [states[number]], items[None], k)[0]

        return score

    def prepare_exact(self, queries: Sequence[EncodedQuery], timer: StageTimer) -> ScoreFunction:
        """Refuse: exact tokens stay on the disk; see `Scorer`."""
        raise InputError("exact precision: is scored on the processors; search on the device cpu")

    @property
    def screen_bound(self) -> ErrorBound | None:
        """Return how far the screen in float16 may be off; see `Scorer`."""
        return None if self.bound is None else self.bound.fact

    def _score(
        self,
        encodings: LocalQueries | None,
        states: Sequence[QueryState],
        items: Positions,
        k: int,
    ) -> list[ItemScores]:
        """Score q queries with items of their own (q, K): exactly what may be among the k best."""
        screened: Tensor | None = None
        if encodings is not None and self._local is not None and items.size:
            numbers = np.array([state.number for state in states])
            screened = self._local.screen(encodings, numbers, items)
        # While the device works on the screen.
        global_ = np.empty(items.shape)
        for row, state in enumerate(states):
            located = LocatedItems.of_index(self._index.index, items[row])
            global_[row] = located.global_scores(state.query.vector)
        local = np.zeros(items.shape)
        if encodings is not None and screened is not None:
            local[:] = screened.cpu().numpy()
            self._refine(encodings, states, items, global_, local, k)
        totals = self._weights.total(global_, local)
        return [ItemScores(*rows) for rows in zip(totals, global_, local, strict=True)]

    def _refine(
        self,
        encodings: LocalQueries,
        states: Sequence[QueryState],
        items: Positions,
        global_: Floats64,
        local: Floats64,
        k: int,
    ) -> None:
        """Score again in float32 what may be among the k best, in place.

        Args:
            encodings: of all queries of the batch.
            states: of q of them.
            items: (q, K) positions in the index.
            global_: S_global (q, K).
            local: S_local (q, K), screened; what is scored again becomes exact.
            k: ranks of the answer.
        """
        assert self._local is not None
        assert self.bound is not None
        exact = np.zeros(items.shape, dtype=bool)
        while True:
            # A model whose S has no local part is not screened: 0 of an infinite ε is none.
            epsilon = self.bound.epsilon * self._weights.local if self._weights.local else 0.0
            chosen: list[tuple[int, Positions]] = []  # rows of `items`, and places in each
            for row, state in enumerate(states):
                totals = self._weights.total(global_[row], local[row])
                open_places = np.flatnonzero(~exact[row])
                proved = largest(np.concatenate([state.best, totals[exact[row]]]), k)
                needed = int(to_refine(totals[open_places], proved, k, epsilon).sum())
                # They are the best of the open ones, those without a finite score first.
                order = np.argsort(-np.nan_to_num(totals[open_places], nan=np.inf), kind="stable")
                rest = order[needed:]
                fill = min(-needed % REFINED, len(rest))
                # From all over the list: the screen may be wrong anywhere.
                extra = rest[np.linspace(0, len(rest) - 1, fill).astype(np.int64)]
                places = open_places[np.concatenate([order[:needed], extra])]
                exact[row, places] = True
                chosen += [
                    (row, places[start : start + REFINED])
                    for start in range(0, len(places), REFINED)
                ]
            if not chosen:
                break
            rows = np.array([row for row, _ in chosen])
            # Always REFINED of them: the places of a list that is shorter come again.
            places = np.stack([np.resize(of_row, REFINED) for _, of_row in chosen])
            first = np.arange(REFINED) < np.array([len(of_row) for _, of_row in chosen])[:, None]
            numbers = np.array([states[row].number for row in rows])
            refined = self._local.refine(encodings, numbers, items[rows[:, None], places])
            screened = local[rows[:, None], places]
            local[rows[:, None], places] = refined
            # Where the screen is worse than thought, more may be among the best.
            self.bound.watch(screened[first], refined[first])
        for row, state in enumerate(states):
            totals = self._weights.total(global_[row], local[row])
            state.best = largest(np.concatenate([state.best, totals[exact[row]]]), k)
