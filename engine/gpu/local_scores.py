"""S_local of queries and items of an index on a device: screened in 16 bits, or in float32."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from hficma.types import Floats, Floats64, Positions

from ..bundle.bundle import Bundle
from ..encoder import EncodedQuery
from ..index.item_encoding import LEVELS, Role
from ..runtimes.captured import CapturedCalls
from .copying import send
from .gpu_queries import GpuQueries
from .kernels.packed_items import PackedItems, pack_items, unpack_items
from .kernels.pair_scores import kernel_weights, score_groups
from .packed_index import PackedIndex
from .weights import folded_weights

if TYPE_CHECKING:
    from hficma.model.similarity import FoldedItemWeights, FoldedWeights, PaddedEncodings

SCREEN = torch.float16
"""Precision of the screen: ten times as exact as bfloat16 at the same speed. Its range is enough,
since rows are unit vectors, softmaxes and gates; where it is not, a score is not finite, and the
item is scored again."""
MOST_QUERIES = 8
"""Queries of a batch whose screen is recorded: a recording keeps a copy of them, 1.3 MB of each
photo at D = 1024."""
LEAST_CANDIDATES = 64
"""Items of a query whose screen is recorded: what is left of an exact search is never as many
twice."""
MOST_ROWS = 10_240
"""Tokens of items whose screen is recorded: of 1,000 recipes. More take a GPU longer than their
launches take the host, and recordings keep what they compute in between: about 50 KB a token at
D = 1024, so half a gigabyte, which all of them share."""
MOST_SCREENS = 8
"""Shape classes that are recorded: few candidates or many, one query or several, of two classes of
rows each."""
PACKED = (
    "query", "key", "value", "gate", "fuse", "gate_bias", "mean", "starts", "lengths", "table",
)  # fmt: skip
"""The tensors of `PackedItems`, of queries."""
PAIRS = 512
"""Pairs scored in float32 at once: about 1 MB each at D = 1024."""


@dataclass(frozen=True, kw_only=True)
class LocalQueries:
    """Q queries on the device, in both precisions."""

    padded: PaddedEncodings
    """(Q, L, ...) float32, at `tables`."""
    packed: PackedItems
    """The same in the screen's precision."""


class LocalScorer:
    """Scores queries with the items of an index.

    Args:
        index: the items' encodings on the device.
        bundle: of the index's model; carries its weights.
        role: of the items.
    """

    def __init__(self, index: PackedIndex, bundle: Bundle, role: Role) -> None:
        self._index = index
        self._role: Role = role
        self._exact = folded_weights(bundle, index.device)
        # Queries are padded to the most tokens that any may have: with the longest of a batch
        # instead, a pair's score would depend on what else is in its batch.
        recipe_tokens = bundle.facts.model.text.max_ingredients
        self._query_tokens = recipe_tokens if role == "image" else bundle.facts.regions
        # No method of this object: the two would hold each other, and with them the recordings.
        narrow = kernel_weights(self._exact, SCREEN)
        self._screened = partial(screen_part, index, role, narrow)
        self._screen_part = CapturedCalls(
            self._screened, index.device, name="the screen", most=MOST_SCREENS
        )
        # One staging area is filled while the other is read: by one request at a time.
        self._lock = threading.Lock()

    def queries(self, queries: Sequence[EncodedQuery]) -> LocalQueries:
        """Bring Q queries to the device, at `tables`.

        Args:
            queries: of the other role than the items.
        """
        if isinstance(queries, GpuQueries) and queries.encodings is not None:
            return self.local_queries(queries.encodings)  # they never left it
        return self.local_queries(self._padded(queries))

    def local_queries(self, encodings: PaddedEncodings) -> LocalQueries:
        """Return queries that are on the device already, as they are scored.

        Args:
            encodings: Q queries (Q, L, ...) float32, at `tables`, recipes padded to the most
                tokens that any may have.
        """
        uniform = self._role == "recipe"  # photos
        packed = pack_items(encodings, SCREEN, heads=self._index.heads, uniform=uniform)
        return LocalQueries(padded=encodings, packed=packed)

    @torch.inference_mode()
    def screen(self, queries: LocalQueries, numbers: Positions, items: Positions) -> Tensor:
        """Score q queries with items of their own in 16 bits, without waiting for the device.

        Args:
            queries: Q of them.
            numbers: (q,) which of them are scored.
            items: (q, K) positions in the index.

        Returns:
            (q, K) float32 on the device.
        """
        scores = torch.empty(items.shape, device=self._index.device)
        of_query = self._to_device(numbers)[:, None]
        packed = queries.packed
        tensors = [getattr(packed, name) for name in PACKED]
        usual = len(packed.starts) <= MOST_QUERIES and items.shape[1] >= LEAST_CANDIDATES
        with self._lock:
            for part in self._index.parts(items, SCREEN):
                arguments = *tensors, of_query[part.queries], part.places
                numbers_on_host = part.rows, packed.longest, packed.shortest
                # A recording pays where launches take longer than what they launch.
                if usual and part.rows <= MOST_ROWS:
                    [block] = self._screen_part(*arguments, numbers=numbers_on_host)
                else:
                    [block] = self._screened(*arguments, *numbers_on_host)
                scores[part.queries, part.candidates] = block
        return scores

    @torch.inference_mode()
    def refine(self, queries: LocalQueries, numbers: Positions, items: Positions) -> Floats64:
        """Score q queries with items of their own in float32.

        Args:
            queries: Q of them.
            numbers: (q,) which of them are scored; one may come more than once.
            items: (q, K) positions in the index.

        Returns:
            (q, K), on the host.
        """
        from hficma.model.similarity import pair_block, tabulate

        scores = torch.empty(items.shape, device=self._index.device)
        of_query = self._to_device(numbers)
        weights = _of_role(self._exact, self._role)
        lines = max(1, PAIRS // items.shape[1])
        with self._lock:
            for line in range(0, len(items), lines):
                block = items[line : line + lines]
                for part in self._index.parts(block, torch.float32):
                    packed, positions = self._index.packed(
                        part.places, part.rows, weights, torch.float32
                    )
                    encodings = unpack_items(packed, positions.flatten())
                    if encodings.table is None:
                        encodings = tabulate(encodings, weights)
                    shape = (positions.shape[0], positions.shape[1])
                    rows = slice(line + part.queries.start, line + part.queries.start + shape[0])
                    query = _select(queries.padded, of_query[rows]).grouped((shape[0], 1))
                    sides = query, encodings.grouped(shape)
                    if self._role == "image":
                        sides = sides[::-1]
                    scores[rows, part.candidates] = pair_block(*sides, self._exact).flatten(1)
        return cast("Floats64", scores.cpu().numpy().astype(np.float64))

    def _to_device(self, numbers: Positions) -> Tensor:
        return send(numbers, self._index.device)

    def _padded(self, queries: Sequence[EncodedQuery]) -> PaddedEncodings:
        """Copy queries at `tables` from the host, padded."""
        from hficma.model.similarity import PaddedEncodings

        arrays = {}
        for name in LEVELS["tables"]:
            rows = np.concatenate([_padded(name, query, self._query_tokens) for query in queries])
            arrays[name] = send(rows, self._index.device)
        lengths = [query.encodings.lengths for query in queries if query.encodings is not None]
        arrays["lengths"] = self._to_device(np.concatenate(lengths))
        return PaddedEncodings(**arrays)


def screen_part(
    index: PackedIndex, role: Role, narrow: FoldedWeights, *arguments: Any
) -> list[Tensor]:
    """Screen a part of a request; recorded, so that nothing of it is read on the host.

    Args:
        index: the items.
        role: of them.
        narrow: the weights in the screen's precision.
        *arguments: the queries' arrays as `PACKED` names them; (q, 1) int64 which of them are
            scored; (q, K) int64 places of their items; then rows of the part, and the most and
            fewest tokens of a query.

    Returns:
        (q, K) float32.
    """
    *arrays, of_query, places, rows, longest, shortest = arguments
    queries = PackedItems(
        **dict(zip(PACKED, arrays, strict=True)),
        heads=index.heads, longest=longest, shortest=shortest,
    )  # fmt: skip
    items, positions = index.packed(places, rows, _of_role(narrow, role), SCREEN)
    sides = (queries, items), (of_query, positions)
    if role == "image":
        sides = sides[0][::-1], sides[1][::-1]
    return [score_groups(*sides[0], *sides[1], narrow).flatten(1)]


def _of_role(weights: FoldedWeights, role: Role) -> FoldedItemWeights:
    """Return the weights of items of a role."""
    return weights.recipe if role == "recipe" else weights.image


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


def _select(encodings: PaddedEncodings, numbers: Tensor) -> PaddedEncodings:
    """Return some items, padded as they are: `PaddedEncodings.select` waits for their lengths."""
    arrays = {field.name: getattr(encodings, field.name)[numbers] for field in fields(encodings)}
    return type(encodings)(**arrays)
