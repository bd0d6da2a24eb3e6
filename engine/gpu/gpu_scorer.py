"""Score on a GPU, by the model's own pair scores in torch.

Everything is float32 without TF32, whose short mantissa the bounds δ and ε of a certificate do not
allow for. The exact S_global, which ties and certificates hang on, is summed on the host as ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from hficma.types import Floats, Floats64, Positions

from ..bundle.bundle import Bundle
from ..encoder import EncodedQuery
from ..index.candidates import CandidateBatch
from ..index.item_encoding import LEVELS
from ..retrieval.certificate import ItemScores
from ..retrieval.located_items import LocatedItems
from ..retrieval.scoring import ScoreFunction
from ..retrieval.timing import StageTimer
from .gpu_index import GpuIndex, require_full_float32

if TYPE_CHECKING:
    from hficma.model.similarity import FoldedWeights, PaddedEncodings

PAIRS = 512
"""Pairs scored at once: about 1 MB each at D = 1024, enough to fill a GPU."""


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
        self._folded = _folded_weights(bundle, index.gpu) if bundle.has_local else None
        # Items are padded to the most tokens that any may have: with the longest of a batch
        # instead, a pair's score would depend on what else is in its batch.
        self._lengths = {
            "image": bundle.facts.regions if bundle.has_local else 0,
            "recipe": bundle.facts.model.text.max_ingredients,
        }

    def close(self) -> None:
        """Release the GPU's memory, which is given back with the last tensor."""
        self._index.close()
        self._folded = None

    def prepare(
        self,
        queries: Sequence[EncodedQuery],
        first_batches: Sequence[CandidateBatch],
        timer: StageTimer,
    ) -> ScoreFunction:
        """Score the first candidates of all queries together, and later ones as they come.

        See `Scorer.prepare`.
        """
        # (Q, K): the prefilter finds as many candidates for every query.
        first_items = np.stack([batch.items for batch in first_batches])
        first_scores = self._score(queries, first_items, timer)

        def score(number: int, items: Positions) -> ItemScores:
            # The ranking begins with the very array of its first batch, which is scored already.
            if items is first_batches[number].items:
                return first_scores[number]
            return self._score([queries[number]], items[None], timer)[0]

        return score

    def _score(
        self, queries: Sequence[EncodedQuery], items: Positions, timer: StageTimer
    ) -> list[ItemScores]:
        """Score Q queries with items of their own, (Q, K)."""
        local = np.zeros(items.shape)
        if self._folded is not None and items.size:
            # As many whole queries as fill a run, or a run after the other of one query.
            group = max(1, PAIRS // items.shape[1])
            for first in range(0, len(queries), group):
                rows = slice(first, first + group)
                encodings = self._query_encodings(queries[rows])
                for start in range(0, items.shape[1], PAIRS):
                    block = rows, slice(start, start + PAIRS)
                    local[block] = self._local_scores(self._folded, encodings, items[block], timer)
        return [
            self._total(query, row, row_local)
            for query, row, row_local in zip(queries, items, local, strict=True)
        ]

    def _total(self, query: EncodedQuery, items: Positions, local: Floats64) -> ItemScores:
        """Put S together for one query and items (K,), S_global summed on the host."""
        global_ = LocatedItems.of_index(self._index.index, items).global_scores(query.vector)
        return ItemScores(self._weights.total(global_, local), global_, local)

    @torch.inference_mode()
    def _local_scores(
        self,
        folded: FoldedWeights,
        query_encodings: PaddedEncodings,
        items: Positions,
        timer: StageTimer,
    ) -> Floats:
        """Return S_local of each query of a group with its items (Q, K)."""
        from hficma.model.similarity import PaddedEncodings, pair_block, project, tabulate

        role = self._index.index.facts.role
        with timer.part("gather"):
            arrays, lengths = self._index.gather(items.ravel(), self._lengths[role])
        weights = folded.recipe if role == "recipe" else folded.image
        if "tokens" in arrays:
            encodings = project(arrays["tokens"], lengths, weights)
        else:
            encodings = PaddedEncodings(**arrays, lengths=lengths)
        if encodings.table is None:
            encodings = tabulate(encodings, weights)
        # Q groups of one query and its K items: the pair kernel scores all pairs within a group.
        encodings = encodings.grouped(items.shape)
        if role == "recipe":
            scores = pair_block(query_encodings, encodings, folded)
        else:
            scores = pair_block(encodings, query_encodings, folded)
        local: Floats = scores.flatten(1).cpu().numpy()
        return local

    def _query_encodings(self, queries: Sequence[EncodedQuery]) -> PaddedEncodings:
        """Copy Q queries, at `tables`, to the GPU as Q groups of one."""
        from hficma.model.similarity import PaddedEncodings

        role = self._index.index.facts.query_role
        gpu = self._index.gpu
        arrays = {}
        for name in LEVELS["tables"]:
            rows = [_padded(name, query, self._lengths[role]) for query in queries]
            arrays[name] = torch.tensor(np.stack(rows), device=gpu)
        lengths = [query.encodings.lengths for query in queries if query.encodings is not None]
        return PaddedEncodings(**arrays, lengths=torch.tensor(np.stack(lengths), device=gpu))


def _padded(name: str, query: EncodedQuery, length: int) -> Floats:
    """Return a query's array with its tokens padded to `length`; padding is masked later."""
    assert query.encodings is not None
    array: Floats = query.encodings.arrays[name]
    if name == "mean":
        return array  # (1, D) has no tokens
    axis = 2 if name == "table" else 1  # (1, H, n, D), else (1, n, D) or (1, n)
    padding = [(0, 0)] * array.ndim
    padding[axis] = (0, length - array.shape[axis])
    return np.pad(array, padding)


def _folded_weights(bundle: Bundle, gpu: torch.device) -> FoldedWeights:
    """Return the folded weights on the GPU: multiplied out in float64, as export does."""
    from hficma.model import HFICMA, load_model
    from hficma.model.similarity import FoldedItemWeights, FoldedWeights

    model = load_model(bundle.path)
    assert isinstance(model, HFICMA)
    wide = model.fold_in_float64()

    def narrow(weights: FoldedItemWeights) -> FoldedItemWeights:
        return FoldedItemWeights(*(tensor.to(gpu, torch.float32) for tensor in weights))

    rest = (tensor.to(gpu, torch.float32) for tensor in wide[2:])
    return FoldedWeights(narrow(wide.image), narrow(wide.recipe), *rest)
