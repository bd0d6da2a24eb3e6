"""Scoring on a GPU, through the model's own spine in torch.

Everything is float32 without TF32, whose short mantissa δ and ε do not allow for. The exact
S_global, which ties and certificates hang on, is summed on the host as ever.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from ..bundle.bundle import Bundle
from ..index.candidates import CandidateBatch
from ..index.item_encoding import LEVELS
from ..retrieval.certificate import ItemScores, Positions
from ..retrieval.reranking import EncodedQuery, exact_products
from ..retrieval.scoring import Score
from .gpu_index import GpuIndex, require_whole_products

if TYPE_CHECKING:
    from hficma.model.similarity import FoldedWeights, PaddedEncodings

PAIRS = 512
"""Pairs scored at once: about 1 MB each at d = 1024, enough to fill a GPU."""

Floats = npt.NDArray[np.float32]


class GpuScorer:
    """Scores queries against items on a device.

    Args:
        placed: the index, on its device.
        bundle: of the model; carries its weights.
    """

    def __init__(self, placed: GpuIndex, bundle: Bundle) -> None:
        require_whole_products()
        self._placed = placed
        self._weights = bundle.score_weights
        self._spine = _spine(bundle, placed.device) if bundle.has_local else None
        # Whatever is padded is padded to what any item may have: a pair's score must not
        # depend on what else is in its batch.
        self._sizes = {
            "image": bundle.facts.regions if bundle.has_local else 0,
            "recipe": bundle.facts.model.text.max_ingredients,
        }

    def close(self) -> None:
        """See `Scorer`: the device's memory is given back with the last tensor."""
        self._placed.close()
        self._spine = None

    def batch(self, queries: Sequence[EncodedQuery], firsts: Sequence[CandidateBatch]) -> Score:
        """See `Scorer`: first visits are scored together, what follows query by query."""
        items = np.stack([first.items for first in firsts])
        together, seconds = self._scores(queries, items)

        def score(number: int, items: Positions) -> tuple[ItemScores, float]:
            if items is firsts[number].items:
                return together[number], seconds / len(queries)
            found, gathering = self._scores([queries[number]], items[None])
            return found[0], gathering

        return score

    def _scores(
        self, queries: Sequence[EncodedQuery], items: Positions
    ) -> tuple[list[ItemScores], float]:
        """Scores of Q queries with items (Q, K), and the seconds that gathering took."""
        index = self._placed.index
        exact = [
            exact_products(query.vector, index.item_arrays, *index.locate(row))
            for query, row in zip(queries, items, strict=True)
        ]
        local, seconds = np.zeros(items.shape), 0.0
        if self._spine is not None and items.size:
            together = max(1, PAIRS // items.shape[1])
            for first in range(0, len(queries), together):
                rows = slice(first, first + together)
                asked = self._asked(queries[rows])
                for start in range(0, items.shape[1], PAIRS):
                    some = rows, slice(start, start + PAIRS)
                    local[some], gathering = self._cross(self._spine, asked, items[some])
                    seconds += gathering
        weights = self._weights
        scores = [
            ItemScores(weights.total(whole, part), whole, part)
            for whole, part in zip(exact, local, strict=True)
        ]
        return scores, seconds

    @torch.inference_mode()
    def _cross(
        self, spine: FoldedWeights, asked: PaddedEncodings, items: Positions
    ) -> tuple[Floats, float]:
        """S_local of each query of a group and its items (Q, K)."""
        from hficma.model.similarity import PaddedEncodings, pair_block, project, tabulate

        began = time.perf_counter()
        role = self._placed.index.facts.role
        arrays, lengths = self._placed.gather(items.ravel(), self._sizes[role])
        seconds = time.perf_counter() - began
        weights = spine.recipe if role == "recipe" else spine.image
        if "tokens" in arrays:
            side = project(arrays["tokens"], lengths, weights)
        else:
            side = PaddedEncodings(**arrays, lengths=lengths)
        if side.table is None:
            side = tabulate(side, weights)
        side = side.grouped(items.shape)
        pair = (asked, side) if role == "recipe" else (side, asked)
        return pair_block(*pair, spine).flatten(1).cpu().numpy(), seconds

    def _asked(self, queries: Sequence[EncodedQuery]) -> PaddedEncodings:
        """Queries at `tables`, as Q groups of one."""
        from hficma.model.similarity import PaddedEncodings

        role = "image" if self._placed.index.facts.role == "recipe" else "recipe"
        size, device = self._sizes[role], self._placed.device
        arrays = {}
        for name in LEVELS["tables"]:
            rows = [_padded(name, query, size) for query in queries]
            arrays[name] = torch.tensor(np.stack(rows), device=device)
        lengths = [query.encodings.lengths for query in queries if query.encodings is not None]
        return PaddedEncodings(**arrays, lengths=torch.tensor(np.stack(lengths), device=device))


def _padded(name: str, query: EncodedQuery, size: int) -> Floats:
    """A query's array, (1, ...) with its tokens padded to `size`; padding is masked later."""
    assert query.encodings is not None
    array: Floats = query.encodings.arrays[name]
    if name == "mean":
        return array
    axis = 2 if name == "table" else 1
    missing = [(0, 0)] * array.ndim
    missing[axis] = (0, size - array.shape[axis])
    return np.pad(array, missing)


def _spine(bundle: Bundle, device: torch.device) -> FoldedWeights:
    """The folded weights on the device: multiplied out in float64, as export does."""
    from hficma.model import HFICMA, load_model
    from hficma.model.similarity import FoldedItemWeights, FoldedWeights

    model = load_model(bundle.path)
    assert isinstance(model, HFICMA)
    wide = copy.deepcopy(model.cross_fusion).double().fold()

    def moved(weights: FoldedItemWeights) -> FoldedItemWeights:
        return FoldedItemWeights(*(tensor.to(device, torch.float32) for tensor in weights))

    rest = (tensor.to(device, torch.float32) for tensor in wide[2:])
    return FoldedWeights(moved(wide.image), moved(wide.recipe), *rest)
