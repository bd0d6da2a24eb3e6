"""An index in a GPU's memory: an exact first stage over its vectors, and its items' encodings.

Imported only where a search runs on a GPU, and torch with it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hficma.errors import InputError, MissingDependencyError
from hficma.types import Positions

from ..files.ragged import Rows
from ..index.index import Index
from ..index.item_encoding import LEVELS, SCALE, StoredEncodings, padded_shape
from ..index.shard import Shard

try:
    import torch
except ImportError as error:
    raise MissingDependencyError("torch", "gpu", "searching on a GPU") from error

from .faiss_prefilter import gpu_prefilter

if TYPE_CHECKING:
    from torch import Tensor

COPY_BYTES = 1 << 26
"""Bytes that are copied to the GPU at once: bounds what a copy takes of the host's memory."""
GIB = 2**30

_log = logging.getLogger("hficma")


def cuda_device(name: str) -> torch.device:
    """Return a GPU by its name, `cuda` or `cuda:N`.

    Raises:
        InputError: there is none of that name.
    """
    try:
        gpu = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name}: there is no such kind; take cpu or cuda[:N]") from error
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu.type != "cuda" or (gpu.index or 0) >= count:
        raise InputError(f"device {name}: torch sees {count} CUDA devices; take the device cpu")
    return gpu


def index_bytes(gpu: torch.device, gibibytes: float | None) -> int:
    """Return how many bytes of a GPU an index may take.

    Args:
        gpu: whose memory it is.
        gibibytes: a limit; None takes half of what is free.

    Raises:
        InputError: the limit is negative.
    """
    if gibibytes is not None:
        if gibibytes < 0:
            raise InputError(f"GPU memory {gibibytes:g} GiB: must be 0 or more")
        return int(gibibytes * GIB)
    return int(torch.cuda.mem_get_info(gpu)[0]) // 2


def require_full_float32() -> None:
    """Refuse to score where the process lets torch shorten float32 products (TF32, bfloat16).

    The bounds that certify an answer count on float32; the switch is the whole process's, so it is
    not turned here.

    Raises:
        InputError: it is turned.
    """
    precision = torch.get_float32_matmul_precision()
    if precision != "highest":
        raise InputError(
            f"torch's float32 matmul precision is '{precision}' in this process, too short for "
            "proved answers; call torch.set_float32_matmul_precision('highest') first"
        )


class GpuEncodings:
    """A shard's encodings on the GPU, in the precision in which they are stored.

    Args:
        encodings: as the shard has them.
        gpu: where they are copied to.
    """

    def __init__(self, encodings: StoredEncodings, gpu: torch.device) -> None:
        self._stored = encodings
        self._arrays = {name: copy_to_gpu(array, gpu) for name, array in encodings.arrays.items()}

    def gather(self, positions: Positions, length: int, out: Mapping[str, Tensor]) -> None:
        """Copy items into padded float32 arrays; as `StoredEncodings.gather`, all on the GPU.

        Args:
            positions: (K,) of the items in the shard, on the host.
            length: L, tokens that each is padded to.
            out: arrays to fill by name, of the shapes of `padded_shape`, on the GPU.
        """
        for name, place in out.items():
            rows = torch.tensor(
                self._stored.padded_rows(name, positions, length), device=place.device
            )
            values = self._arrays[name].index_select(0, rows).to(place.dtype)
            if name + SCALE in self._arrays:  # int8: a scale a row
                values *= self._arrays[name + SCALE].index_select(0, rows)[:, None]
            place.copy_(values.view(place.shape))


class GpuIndex:
    """An index whose arrays are in a GPU's memory, as far as they fit.

    The vectors of all shards are copied first, for every search reads all of them; then the
    encodings, shard by shard. A shard whose vectors do not fit is searched by its own prefilter,
    and items whose encodings do not fit are gathered on the host and copied: the answers are the
    same, and a line in the log says so.

    Args:
        index: whose shards are searched on the GPU from now on.
        gpu: where to.
        memory: bytes there that the index may take.
    """

    def __init__(self, index: Index, gpu: torch.device, memory: int) -> None:
        self.index = index
        self.gpu = gpu
        self.resident = 0
        """Bytes of the index that are on the GPU."""
        self._memory = memory
        self._encodings: list[GpuEncodings | None] = []
        for shard in index.shards:
            if self._reserve(shard.vectors):
                shard.prefilter = gpu_prefilter(shard, copy_to_gpu(shard.vectors, gpu))
            else:
                self._log_left_out(shard, "vectors", "searched on the processors")
        for shard in index.shards:
            resident = None
            if shard.encodings is not None:
                if self._reserve(*shard.encodings.arrays.values()):
                    resident = GpuEncodings(shard.encodings, gpu)
                else:
                    self._log_left_out(shard, "encodings", "gathered on the processors")
            self._encodings.append(resident)

    def close(self) -> None:
        """Release the encodings; the vectors go with the index's shards."""
        self._encodings = []

    def _reserve(self, *arrays: Rows) -> bool:
        """Return whether arrays fit beside what is on the GPU, and count them if they do."""
        size = sum(array.nbytes for array in arrays)
        fits = self.resident + size <= self._memory
        self.resident += size * fits
        return fits

    def _log_left_out(self, shard: Shard, what: str, consequence: str) -> None:
        """Say that something stays on the host: the search is right, and slower."""
        _log.info(
            "%s: its %s do not fit the %.2f GiB of the GPU that an index may take; they are %s",
            shard.folder, what, self._memory / GIB, consequence,
        )  # fmt: skip

    def gather(self, items: Positions, length: int) -> tuple[dict[str, Tensor], Tensor]:
        """Copy items into padded arrays on the GPU.

        Args:
            items: (N,) positions in the index, at least one.
            length: tokens that each is padded to.

        Returns:
            float32 arrays by name, as `BatchEncodings` has them, and lengths (N,), on the GPU.
        """
        shard_of, positions = self.index.locate(items)
        # Items are written shard after shard, so that each shard fills one run of the arrays, and
        # brought back into the order of `items` at the end:
        #     items    9 2 8 1      (2 shards, split at 5)
        #     order    1 3 0 2      arrays hold 2 1 | 9 8
        order = np.argsort(shard_of, kind="stable")
        first = self.index.item_arrays[int(shard_of[0])].encodings
        assert first is not None
        arrays = {
            name: torch.empty(padded_shape(name, first, len(items), length), device=self.gpu)
            for name in LEVELS[first.level]
        }
        lengths = np.empty(len(items), np.int64)
        start = 0
        for number in np.unique(shard_of):
            in_shard = positions[shard_of == number]
            run = slice(start, start := start + len(in_shard))
            stored = self.index.item_arrays[number].encodings
            assert stored is not None
            lengths[run] = stored.lengths[in_shard]
            out = {name: array[run] for name, array in arrays.items()}
            resident = self._encodings[number]
            if resident is not None:
                resident.gather(in_shard, length, out)
            else:
                _gather_from_host(stored, in_shard, length, out)
        gpu_lengths = torch.tensor(lengths, device=self.gpu)
        if "tokens" in arrays:
            # Projecting sums all rows for the mean, padding too: here it must be zero.
            padding = torch.arange(length, device=self.gpu) >= gpu_lengths[:, None]
            arrays["tokens"].masked_fill_(padding[..., None], 0.0)
        if (np.diff(order) == 1).all():
            return arrays, gpu_lengths
        inverse = torch.tensor(np.argsort(order), device=self.gpu)
        return {name: array[inverse] for name, array in arrays.items()}, gpu_lengths[inverse]


def _gather_from_host(
    encodings: StoredEncodings, positions: Positions, length: int, out: Mapping[str, Tensor]
) -> None:
    """Copy items of a shard that is not on the GPU, through arrays on the host."""
    host = {name: np.empty(place.shape, np.float32) for name, place in out.items()}
    encodings.gather(positions, length, host)
    for name, place in out.items():
        place.copy_(torch.from_numpy(host[name]))


def copy_to_gpu(array: Rows, gpu: torch.device) -> Tensor:
    """Copy a stored array to a GPU, in pieces that are compared with their checksums as read.

    Args:
        array: (N, ...) of any of the stored dtypes.
        gpu: where to.
    """
    dtype: Any = torch.from_numpy(np.empty(0, array.dtype)).dtype
    tensor = torch.empty(array.shape, dtype=dtype, device=gpu)
    step = max(1, COPY_BYTES * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), step):
        tensor[start : start + step] = torch.tensor(array[start : start + step])
    return tensor
