"""An index in a GPU's memory: an exact first pass over its vectors, and its items' sides.

Imported with `--device cuda` only, and the torch it needs with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hficma.errors import InputError, MissingDependencyError

from ..files.ragged import Rows
from ..index.index import Index
from ..index.item_encoding import LEVELS, SCALE, StoredEncodings, shape_of
from ..index.shard import Shard
from ..index.vector_index import Mask, Prefilter, ShardCandidates, Vectors
from ..retrieval.certificate import Positions

try:
    import torch
except ImportError as error:
    raise MissingDependencyError("torch", "gpu", "searching on a GPU") from error

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 1 << 18
"""Vectors compared at once."""
COPIED = 1 << 26
"""Bytes brought to the device at once: what that takes of the host's memory."""
GIB = 2**30


def cuda_device(name: str) -> torch.device:
    """A GPU by name, `cuda` or `cuda:N`.

    Raises:
        InputError: there is none of that name.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name}: there is no such kind; take cpu or cuda[:N]") from error
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type != "cuda" or (device.index or 0) >= count:
        raise InputError(f"device {name}: torch sees {count} CUDA devices; take --device cpu")
    return device


def memory_of(device: torch.device, gpu_memory: float | None) -> int:
    """Bytes of the device for an index: `gpu_memory` GiB, or half of what is free there."""
    if gpu_memory is not None:
        if gpu_memory < 0:
            raise InputError(f"--gpu-memory {gpu_memory}: must be 0 GiB or more")
        return int(gpu_memory * GIB)
    return int(torch.cuda.mem_get_info(device)[0]) // 2


def require_whole_products() -> None:
    """Refuse to score where the process lets torch shorten float32 products (TF32, bfloat16).

    The bounds that certify an answer count on float32; the switch is the whole process's, so it is
    not turned here.

    Raises:
        InputError: it is turned.
    """
    found = torch.get_float32_matmul_precision()
    if found != "highest":
        raise InputError(
            f"torch's float32 matmul precision is '{found}' in this process, too short for proved "
            "answers; call torch.set_float32_matmul_precision('highest') first"
        )


class GpuPrefilter(Prefilter):
    """An exact scan of a shard's vectors on the device, whatever kind its own prefilter is.

    Its scores are within the float32 rounding of g, in any order of summation: kinds that skip
    items or store them narrower certify here as Flat does.

    Args:
        shard: whose vectors they are.
        vectors: (N, D_g) float32 on the device.
    """

    def __init__(self, shard: Shard, vectors: Tensor) -> None:
        facts = replace(
            shard.prefilter.facts, factory="Flat", bounded=True, error_norm=0.0, error_entry=0.0
        )
        super().__init__(facts, shard.vectors, None)
        self._there = vectors

    def search(self, queries: Vectors, count: int, allowed: Mask | None) -> list[ShardCandidates]:
        """See the base."""
        count = min(count, len(self._there) if allowed is None else int(allowed.sum()))
        if count == 0:
            return [ShardCandidates(np.empty(0, np.int64), np.empty(0, np.float32))] * len(queries)
        device = self._there.device
        hidden = None if allowed is None else torch.tensor(~allowed, device=device)
        with torch.inference_mode():
            asked = torch.tensor(queries, device=device)
            scores = asked.new_empty(len(queries), 0)
            places = torch.empty(len(queries), 0, dtype=torch.int64, device=device)
            for start in range(0, len(self._there), BLOCK):
                block = asked @ self._there[start : start + BLOCK].mT
                if hidden is not None:
                    block.masked_fill_(hidden[start : start + BLOCK], -torch.inf)
                fresh, found = block.topk(min(count, block.shape[1]))
                scores = torch.cat([scores, fresh], dim=1)
                places = torch.cat([places, found + start], dim=1)
                scores, order = scores.topk(min(count, scores.shape[1]))
                places = places.gather(1, order)
        pairs = zip(places.cpu().numpy(), scores.cpu().numpy(), strict=True)
        return [ShardCandidates(*pair) for pair in pairs]

    def scores(self, query: Vectors) -> Vectors:
        """See the base."""
        with torch.inference_mode():
            products = self._there @ torch.tensor(query, device=self._there.device)
        found: Vectors = products.cpu().numpy()
        return found


class GpuEncodings:
    """A shard's sides on the device, in the precision in which they are stored.

    Args:
        sides: as the shard has them.
        device: where they go.
    """

    def __init__(self, encodings: StoredEncodings, device: torch.device) -> None:
        self._sides = encodings
        self._arrays = {
            name: copy_to_gpu(array, device) for name, array in encodings.arrays.items()
        }

    def gather(self, positions: Positions, size: int, out: Mapping[str, Tensor]) -> None:
        """As `StoredEncodings.gather`, without leaving the device."""
        for name, place in out.items():
            rows = torch.tensor(self._sides.padded_rows(name, positions, size), device=place.device)
            values = self._arrays[name].index_select(0, rows).to(place.dtype)
            if name + SCALE in self._arrays:
                values *= self._arrays[name + SCALE].index_select(0, rows)[:, None]
            place.copy_(values.view(place.shape))


class GpuIndex:
    """An index whose arrays are in a device's memory, as far as they fit.

    The vectors of all shards are brought there first, for every search reads all of them, then
    the sides, shard by shard. A shard that does not fit is searched by its own prefilter, or
    its items are gathered on the host and copied: the answers are the same.

    Args:
        index: whose shards are searched on the device from now on.
        device: where to.
        memory: bytes there that the index may take.
    """

    def __init__(self, index: Index, device: torch.device, memory: int) -> None:
        self.index = index
        self.device = device
        self.resident = 0
        """Bytes of the index that are on the device."""
        self._memory = memory
        for shard in index.shards:
            if self._takes(shard.vectors):
                shard.prefilter = GpuPrefilter(shard, copy_to_gpu(shard.vectors, device))
        self._sides = [
            GpuEncodings(shard.encodings, device)
            if shard.encodings and self._takes(*shard.encodings.arrays.values())
            else None
            for shard in index.shards
        ]

    def close(self) -> None:
        """Let go of the device's memory."""
        self._sides = []

    def _takes(self, *arrays: Rows) -> bool:
        """Whether arrays fit beside what is there; they are then counted."""
        size = sum(array.nbytes for array in arrays)
        fits = self.resident + size <= self._memory
        self.resident += size * fits
        return fits

    def gather(self, items: Positions, size: int) -> tuple[dict[str, Tensor], Tensor]:
        """Items of one level, padded to `size` tokens each.

        Returns:
            float32 arrays by name, as `RaggedEncodings` has them, and lengths (m,), on the device.
        """
        shard_of, places = self.index.locate(items)
        # In the order of shards each has its run of the arrays; their order is mended at the end.
        order = np.argsort(shard_of, kind="stable")
        first = self.index.item_arrays[int(shard_of[0])].encodings
        assert first is not None
        arrays = {
            name: torch.empty(shape_of(name, first, len(items), size), device=self.device)
            for name in LEVELS[first.level]
        }
        lengths = np.empty(len(items), np.int64)
        start = 0
        for number in np.unique(shard_of):
            mine = places[shard_of == number]
            run = slice(start, start := start + len(mine))
            stored = self.index.item_arrays[number].encodings
            assert stored is not None
            lengths[run] = stored.lengths[mine]
            out = {name: array[run] for name, array in arrays.items()}
            resident = self._sides[number]
            if resident is not None:
                resident.gather(mine, size, out)
            else:
                _gather_from_host(stored, mine, size, out)
        counts = torch.tensor(lengths, device=self.device)
        if "tokens" in arrays:
            # The mean of a side is the sum of its rows: here padding must be zero.
            padding = torch.arange(size, device=self.device) >= counts[:, None]
            arrays["tokens"].masked_fill_(padding[..., None], 0.0)
        if (np.diff(order) == 1).all():
            return arrays, counts
        back = torch.tensor(np.argsort(order), device=self.device)
        return {name: array[back] for name, array in arrays.items()}, counts[back]


def _gather_from_host(
    encodings: StoredEncodings, positions: Positions, size: int, out: Mapping[str, Tensor]
) -> None:
    """As `GpuEncodings.gather`, for a shard that is not on the device."""
    read = {name: np.empty(place.shape, np.float32) for name, place in out.items()}
    encodings.gather(positions, size, read)
    for name, place in out.items():
        place.copy_(torch.from_numpy(read[name]))


def copy_to_gpu(array: Rows, device: torch.device) -> Tensor:
    """A stored array on the device, copied in pieces and compared on the way."""
    kind: Any = torch.from_numpy(np.empty(0, array.dtype)).dtype
    copied = torch.empty(array.shape, dtype=kind, device=device)
    step = max(1, COPIED * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), step):
        copied[start : start + step] = torch.tensor(array[start : start + step])
    return copied
