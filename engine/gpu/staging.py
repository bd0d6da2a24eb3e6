"""Two areas of a device's memory through which items come that have no place of their own there.

While the kernels read one area, the processors gather the next items into pinned memory, and a
second CUDA stream copies them to the other:

    host      gather 0 | gather 1 | gather 2      | ...
    copies             | copy 0   | copy 1 | copy 2 ...
    kernels                       | score 0 | score 1 ...

On torch's CPU device the same copies are made, without pinning and streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor

from hficma.types import Array, Offsets, Positions

from ..files.ragged import raw_rows
from ..index.item_encoding import StoredEncodings, rows_per_token
from .copying import send

STARTS = "starts"
LENGTHS = "lengths"
"""Names, beside those of encodings, of what is known of each place: its first row, its rows."""


class Staging:
    """Brings items of shards to the places behind the resident ones; one thread at a time.

    Args:
        stored: encodings of each shard.
        shard_offsets: (shards + 1,) the position of each shard's first item, and N.
        resident_items: R, items with a place of their own.
        resident_rows: their tokens.
        arrays: on the device, by the names of encodings, and `STARTS` and `LENGTHS`; behind what is
            resident there is room for two areas in each.
        heads: H.
        items: S, items of an area.
        longest: tokens of an item at most.
    """

    def __init__(
        self,
        stored: Sequence[StoredEncodings],
        shard_offsets: Offsets,
        resident_items: int,
        resident_rows: int,
        arrays: Mapping[str, Tensor],
        *,
        heads: int,
        items: int,
        longest: int,
    ) -> None:
        self.items = items
        self._stored = stored
        self._shard_offsets = shard_offsets
        self._resident_items = resident_items
        self._resident_rows = resident_rows
        self._heads = heads
        self._area_rows = items * longest
        device = arrays[STARTS].device
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._areas = [_Area(self, arrays, number) for number in range(2)]

    def rows_per_token(self, name: str) -> int:
        """Return how many rows a token has in an array; 0 where a row is a whole item's."""
        if name in (STARTS, LENGTHS):
            return 0
        return rows_per_token(name, self._heads)

    def borders(self, name: str, area: int) -> slice:
        """Return the rows of an array that an area has."""
        each = self.rows_per_token(name)
        size = self._area_rows * each if each else self.items
        start = self._resident_rows * each if each else self._resident_items
        return slice(start + area * size, start + (area + 1) * size)

    @contextmanager
    def area(self, items: Positions) -> Iterator[Tensor]:
        """Bring items to an area, and keep them there for what the block launches.

        Args:
            items: (...) positions in the index, S at most.

        Yields:
            (...) int64 places of the items on the device.
        """
        area = self._areas[0]
        self._areas.reverse()
        absent = np.unique(items[items >= self._resident_items])
        first = self._resident_items + area.number * self.items
        places = np.where(
            items < self._resident_items, items, first + np.searchsorted(absent, items)
        )
        area.wait()
        sizes = self._gather(absent, area)
        with area.reading(self._copies, sizes):
            yield send(places, area.device)

    def _gather(self, items: Positions, area: _Area) -> dict[str, int]:
        """Copy items (n,), rising, to an area's memory on the host; return the rows by array."""
        shard_of = np.searchsorted(self._shard_offsets, items, side="right") - 1
        filled = dict.fromkeys(area.host, 0)

        def append(name: str, array: Array, rows: Positions) -> None:
            out = area.host[name][filled[name] : filled[name] + len(rows)]
            # In its default mode numpy buffers `out`: all of it would be copied once more.
            np.take(array, rows, axis=0, out=out, mode="clip")
            filled[name] += len(rows)

        for number in np.unique(shard_of):
            stored = self._stored[number]
            positions = items[shard_of == number] - self._shard_offsets[number]
            stored.check(positions)
            rows: dict[int, Positions] = {}  # arrays with as many rows a token share them
            for name, array in stored.arrays.items():
                each = self.rows_per_token(name)
                if each not in rows:
                    rows[each] = stored.rows(name, positions)
                append(name, raw_rows(array), rows[each])
            append(LENGTHS, stored.lengths, positions)
        lengths = area.host[LENGTHS][: len(items)]
        first = self._resident_rows + area.number * self._area_rows
        append(STARTS, first + np.cumsum(lengths) - lengths, np.arange(len(items)))
        return filled


class _Area:
    """One of the two areas: its memory on the device, and as much pinned on the host."""

    def __init__(self, staging: Staging, arrays: Mapping[str, Tensor], number: int) -> None:
        self.number = number
        self.device = arrays[STARTS].device
        pinned = self.device.type == "cuda"
        self._target = {
            name: array[staging.borders(name, number)] for name, array in arrays.items()
        }
        self._source = {
            name: torch.empty(target.shape, dtype=target.dtype, pin_memory=pinned)
            for name, target in self._target.items()
        }
        self.host = {name: source.numpy() for name, source in self._source.items()}
        """The pinned memory, as the processors write it."""
        self._copied = torch.cuda.Event() if pinned else None
        self._read = torch.cuda.Event() if pinned else None
        if self._read is not None:
            # What was launched before may use memory that is new here.
            self._read.record(torch.cuda.current_stream(self.device))

    def wait(self) -> None:
        """Wait until the pinned memory may be written again: its last copy has ended."""
        if self._copied is not None:
            self._copied.synchronize()

    @contextmanager
    def reading(self, copies: torch.cuda.Stream | None, sizes: Mapping[str, int]) -> Iterator[None]:
        """Copy what was gathered; what the block launches runs behind the copy.

        Args:
            copies: the stream of copies; None on the CPU.
            sizes: rows to copy of each array.
        """
        stream: AbstractContextManager[object] = nullcontext()
        if copies is not None and self._read is not None:
            # What was launched to read this area the last time must have read it.
            copies.wait_event(self._read)
            stream = torch.cuda.stream(copies)
        with stream:
            for name, size in sizes.items():
                self._target[name][:size].copy_(self._source[name][:size], non_blocking=True)
        if copies is not None and self._copied is not None and self._read is not None:
            self._copied.record(copies)
            reader = torch.cuda.current_stream(self.device)
            reader.wait_event(self._copied)
            try:
                yield
            finally:  # what was launched reads on, also where the block was left early
                self._read.record(reader)
        else:
            yield
