"""An index in a GPU's memory: an exact first stage over its vectors, and its items' encodings.

Imported only where a search runs on a GPU, and torch with it.
"""

from __future__ import annotations

import logging

from hficma.errors import InputError, MissingDependencyError

from ..index.index import Index

try:
    import torch
except ImportError as error:
    raise MissingDependencyError("torch", "gpu", "searching on a GPU") from error

from .copying import copy_to_device
from .faiss_prefilter import gpu_prefilter
from .packed_index import PackedIndex

GIB = 2**30

_log = logging.getLogger("hficma")


def cuda_device(name: str) -> torch.device:
    """Return a GPU by its name, `cuda` or `cuda:N`, always with its number: torch asks for one.

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
    return torch.device("cuda", gpu.index or 0)


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


class GpuIndex:
    """An index whose arrays are in a GPU's memory, as far as they fit.

    The vectors of all shards are copied first, for every search reads all of them; then encodings,
    item by item. A shard whose vectors do not fit is searched by its own prefilter, and items whose
    encodings do not fit are copied as they are scored: the answers are the same, and a line in the
    log says so.

    Args:
        index: whose shards are searched on the GPU from now on.
        heads: H of the index's model.
        gpu: where to.
        memory: bytes there that the index may take.
    """

    def __init__(self, index: Index, heads: int, gpu: torch.device, memory: int) -> None:
        self.index = index
        self.gpu = gpu
        self.resident = 0
        """Bytes of the index that are on the GPU."""
        self.encodings: PackedIndex | None = None
        """Of all items; None for a model without a local part."""
        for shard in index.shards:
            if self.resident + shard.vectors.nbytes <= memory:
                self.resident += shard.vectors.nbytes
                shard.prefilter = gpu_prefilter(shard, copy_to_device(shard.vectors, gpu))
            else:
                _log.info(
                    "%s: its vectors do not fit the %.2f GiB of the GPU that an index may take; "
                    "they are searched on the processors", shard.folder, memory / GIB,
                )  # fmt: skip
        if not index.shards or index.facts.level is None:
            return
        self.encodings = PackedIndex(index, heads, gpu, memory - self.resident)
        self.resident += self.encodings.resident
        absent = index.count - self.encodings.resident_items
        if absent:
            _log.info(
                "%s: the encodings of %s of %s items do not fit the %.2f GiB of the GPU that an "
                "index may take; they stay on the host, and are copied as they are scored",
                index.path, f"{absent:,}", f"{index.count:,}", memory / GIB,
            )  # fmt: skip

    def close(self) -> None:
        """Release the encodings; the vectors go with the index's shards."""
        if self.encodings is not None:
            self.encodings.close()
            self.encodings = None
