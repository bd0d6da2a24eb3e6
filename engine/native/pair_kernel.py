"""Score pairs with the compiled kernels: a query, packed once, with items read where they lie.

    pack(query)                 once a query: what every tile reads, in the order it is read
    tabulate(items, tables)     a tile that several queries read: what is computed of items alone
    fuse(query, items, means)   a tile of items: (1) to (6) of hficma/model/similarity.py
    match(means)                all items together: (7), whose weights are then read once

Items need no padding, and none is copied whole: rows are widened to float32 on their way into the
products, from float32, float16 or int8.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hficma.types import Array, Bytes, Floats, Lengths, Positions

from .library import (
    PROJECTIONS,
    SCREEN,
    STORED_TYPES,
    TABLES,
    Items,
    MissingKernelsError,
    Query,
    Rows,
    Tables,
    Weights,
    address,
    buffer,
    load,
)


@dataclass(frozen=True, kw_only=True)
class PairWeights:
    """The weights that scoring items of one role reads: a part of `FoldedWeights`, as arrays.

    All float32. Matrices have the axis that is summed first, as ONNX stores them.
    """

    heads: int
    """H."""
    query_bias: Floats
    """(D,): f of the query's role."""
    item_bias: Floats
    """(D,): f of the items' role."""
    match_hidden: Floats
    """(2 D, D)."""
    match_hidden_bias: Floats
    """(D,)."""
    match_output: Floats
    """(D,)."""
    match_output_bias: float
    """Of S_local before its sigmoid."""
    table: Floats | None = None
    """(H, D / H, D) of the items' role; None where their tables are stored."""
    projection: Floats | None = None
    """(D, 5 D) of the items' role; None where their projections are stored."""
    projection_bias: Floats | None = None
    """(5 D,)."""
    gate_bias: Floats | None = None
    """(D,)."""


class TileItems(NamedTuple):
    """Items of a tile, ragged, in the arrays of one shard or batch."""

    lengths: Lengths
    """(n,) tokens of each."""
    first: Positions
    """(n,) the row of its first token."""
    places: Positions
    """(n,) its row in `mean`."""
    arrays: Mapping[str, Array]
    """Of a level, by name: (rows, D), `table` (H rows, D), `mean` (items, D), `gate_bias`
    (rows,). Contiguous; float32, float16, or int8 with scales."""
    scales: Mapping[str, Floats]
    """(rows,) of int8 arrays, by the arrays' names."""


class PackedQuery(NamedTuple):
    """A query as the kernels read it."""

    memory: Bytes
    """Packed by `PairKernel.pack`."""
    length: int
    """L_q."""


class PairKernel:
    """Scores items of one role for queries of the other; any number of threads may share it.

    Args:
        weights: that pairs meet.
        query_first: whether the query is the photo.
        kind: of the library's variants; None takes the fastest in float32.

    Raises:
        MissingKernelsError: this install has none for this processor.
    """

    def __init__(self, weights: PairWeights, *, query_first: bool, kind: str | None = None) -> None:
        self.kind, self._functions = load(kind)
        self.width = len(weights.match_output)
        self.heads = weights.heads
        if self.kind == SCREEN and self.width // self.heads % 2:
            raise MissingKernelsError("bfloat16 goes by pairs, and heads are of odd width")
        self._thread = threading.local()
        self._kept: list[Array] = []
        table = projection = None
        if weights.table is not None:
            table = self._packed(weights.table)
        if weights.projection is not None:
            # The five matrices one after the other: (D, 5 D) -> (5, D, D).
            parts = weights.projection.reshape(self.width, len(PROJECTIONS), self.width)
            projection = self._packed(np.ascontiguousarray(parts.transpose(1, 0, 2)))
        self._weights = Weights(
            width=self.width,
            heads=self.heads,
            query_first=int(query_first),
            query_bias=self._address(weights.query_bias),
            item_bias=self._address(weights.item_bias),
            hidden=self._packed(weights.match_hidden[None]),
            hidden_bias=self._address(weights.match_hidden_bias),
            output=self._address(weights.match_output),
            output_bias=weights.match_output_bias,
            table=table,
            projection=projection,
            projection_bias=self._address(weights.projection_bias),
            gate_bias=self._address(weights.gate_bias),
        )
        self._weights_at = ctypes.byref(self._weights)
        self._stride = self._functions.means_stride(self.width)

    def pack(self, arrays: Mapping[str, Array]) -> PackedQuery:
        """Bring a query into the order in which it is read.

        Args:
            arrays: at `tables`, without padding: (L, D), `table` (H, L, D), `mean` (D,),
                `gate_bias` (L,).
        """
        kept = {name: np.ascontiguousarray(arrays[name], np.float32) for name in arrays}
        length = len(kept["gate_bias"])
        memory = buffer(self._functions.query_bytes(self._weights_at, length))
        query = Query(length=length)
        for name in TABLES:
            setattr(query, name, address(kept[name]))
        self._functions.pack_query(self._weights_at, ctypes.byref(query), address(memory))
        return PackedQuery(memory, length)

    def means(self, count: int) -> Floats:
        """Return memory for the means of `count` items, a row each."""
        memory = buffer(4 * count * self._stride).view(np.float32)
        return memory.reshape(count, self._stride)

    def fuse(self, query: PackedQuery, items: TileItems, means: Floats) -> None:
        """Fill the means of a tile.

        Args:
            query: packed.
            items: n of them.
            means: n rows of `PairKernel.means`.
        """
        assert len(means) == len(items.lengths)
        assert means.strides == (4 * self._stride, 4)
        tile, _kept = self._items(items)
        size = self._functions.scratch_bytes(
            self._weights_at, query.length, len(means),
            int(items.lengths.sum()), int(items.lengths.max()),
        )  # fmt: skip
        self._functions.fuse(
            self._weights_at,
            address(query.memory),
            ctypes.byref(tile),
            address(means),
            address(self._scratch(size)),
        )

    def tabulate(self, items: TileItems, out: Mapping[str, Floats]) -> None:
        """Bring a tile that is stored as tokens or projections to `tables`, for several queries.

        An item scores the same bits by them as from what is stored.

        Args:
            items: n of them, of `tokens` tokens together.
            out: where its arrays go, contiguous, one item after the other: (tokens, D), `table`
                (H tokens, D), `mean` (n, D), `gate_bias` (tokens,).
        """
        tile, _kept = self._items(items)
        tables = Tables()
        for name in TABLES:
            assert out[name].flags.c_contiguous
            setattr(tables, name, address(out[name]))
        size = self._functions.tabulate_scratch_bytes(
            self._weights_at, len(items.lengths), int(items.lengths.sum())
        )
        self._functions.tabulate(
            self._weights_at, ctypes.byref(tile), ctypes.byref(tables), address(self._scratch(size))
        )

    def tabulate_tiles(
        self,
        lengths: Sequence[Lengths],
        tile_items: Callable[[int], TileItems],
        pool: Executor | None,
    ) -> dict[str, Floats]:
        """Bring all items of some tiles to `tables`, and return their arrays, tile after tile.

        Args:
            lengths: (n,) tokens of each item, of each tile.
            tile_items: returns the items of the tile of a number; called by whoever computes them.
            pool: runs tiles, one a task; None runs them here.
        """
        counts = [len(part) for part in lengths]
        tokens = [int(part.sum()) for part in lengths]
        sizes = dict.fromkeys(PROJECTIONS, sum(tokens))
        sizes |= {"mean": sum(counts), "table": self.heads * sum(tokens)}
        arrays: dict[str, Floats] = {
            name: np.empty((rows, self.width), np.float32) for name, rows in sizes.items()
        }
        arrays["gate_bias"] = np.empty(sum(tokens), np.float32)
        ends = {"mean": np.cumsum(counts), "table": self.heads * np.cumsum(tokens)}

        def fill(number: int) -> None:
            out = {}
            for name, array in arrays.items():
                stops = ends.get(name, ends["table"] // self.heads)
                start = 0 if number == 0 else int(stops[number - 1])
                out[name] = array[start : int(stops[number])]
            self.tabulate(tile_items(number), out)

        list((map if pool is None else pool.map)(fill, range(len(lengths))))
        return arrays

    @property
    def match_parts(self) -> int:
        """Return into how many parts `match` may be divided."""
        return int(self._functions.match_parts(self.width))

    def match(self, means: Floats, logits: Floats, start: int, stop: int) -> None:
        """Compute what some parts of the matching MLP say of every item.

        Args:
            means: (N, ...) of `fuse`.
            logits: (N, match_parts) to fill from column `start` to `stop`.
            start: the first part.
            stop: the one behind the last.
        """
        size = self._functions.match_scratch_bytes(self.width, len(means))
        self._functions.match(
            self._weights_at, address(means), len(means), start, stop, address(logits),
            address(self._scratch(size)),
        )  # fmt: skip

    def finish(self, logits: Floats) -> Floats:
        """Return S_local (N,) of what all parts say of N items."""
        scores = np.empty(len(logits), dtype=np.float32)
        self._functions.finish(self._weights_at, address(logits), len(logits), address(scores))
        return scores

    def _items(self, items: TileItems) -> tuple[Items, list[Array]]:
        """Return a tile as the library takes it, and arrays to keep as long as it is used."""
        kept: list[Array] = [
            np.ascontiguousarray(array, np.int64)
            for array in (items.lengths, items.first, items.places)
        ]
        tile = Items(len(items.lengths), *(address(array) for array in kept))
        for name, array in items.arrays.items():
            assert array.flags.c_contiguous
            if name in ("mean", "gate_bias"):
                assert array.dtype == np.float32
                setattr(tile, name, address(array))
            else:
                assert array.shape[-1] == self.width
                scales = items.scales.get(name)
                rows = Rows(address(array), address(scales), STORED_TYPES[array.dtype.name])
                setattr(tile, name, rows)
        return tile, kept

    def _scratch(self, size: int) -> Bytes:
        """Return this thread's memory: the same for every tile, so it stays cached."""
        memory: Bytes | None = getattr(self._thread, "memory", None)
        if memory is None or len(memory) < size:
            memory = self._thread.memory = buffer(size)
        return memory

    def _address(self, values: Floats | None) -> int | None:
        """Return where weights lie, which are kept in memory from here on."""
        if values is None:
            return None
        values = np.ascontiguousarray(values, np.float32)
        self._kept.append(values)
        return address(values)

    def _packed(self, matrices: Floats) -> int | None:
        """Pack matrices (n, K, N) one after the other, and return where they lie."""
        matrices = np.ascontiguousarray(matrices, np.float32)
        count, depth, columns = matrices.shape
        size = self._functions.packed_bytes(depth, columns)
        memory = buffer(count * size)
        for number, matrix in enumerate(matrices):
            self._functions.pack(
                address(matrix), depth, columns, columns, 1, address(memory) + number * size
            )
        self._kept.append(memory)
        return address(memory)
