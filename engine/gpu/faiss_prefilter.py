"""FAISS on a GPU as a shard's prefilter: brute force over resident vectors, or inverted lists.

`gpu_prefilter` takes it where FAISS sees the GPU, and else torch's exact scan.

    kind of the shard's index        searched here
    IVF...                           by FAISS's GPU index of the same lists, moved over
    any other                        by FAISS's `bfKnn` over the exact vectors, which are there

`FaissGpu` is the seam: what stands behind it runs on a card alone. Tests put FAISS's CPU indexes in
its place, which have the same methods.
"""

from __future__ import annotations

import logging
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hficma.errors import MissingDependencyError
from hficma.types import Floats, Mask

from ..index.candidates import ShardCandidates
from ..index.faiss_factory import import_faiss
from ..index.prefilter import Prefilter
from .copying import send
from .prefilter import GpuPrefilter

if TYPE_CHECKING:
    from torch import Tensor

    from ..index.shard import Shard

MOST_NEAREST = 2048
"""Items that FAISS selects for a query on a GPU at most; for more, torch scans."""
WORKSPACE_BYTES = 1 << 28
"""Memory that FAISS takes for its own intermediate results; its default is 1.5 GB."""
PROBES = 4
"""Vectors of a shard that are searched for when it is opened, to see that FAISS finds them."""

_log = logging.getLogger("hficma")


class FaissGpu:
    """FAISS's resources on one GPU, shared by all shards there. Not safe from several threads.

    Args:
        device: of which FAISS has a build.
    """

    def __init__(self, device: torch.device) -> None:
        faiss = import_faiss()
        self.lock = threading.Lock()
        """Held during a search: FAISS's GPU indexes share one workspace and one stream."""
        self._device = device
        self._number = device.index or 0
        self._resources = faiss.StandardGpuResources()
        self._resources.setTempMemory(WORKSPACE_BYTES)

    def moved(self, index: Any) -> Any:
        """Return a FAISS index on the GPU.

        Args:
            index: of inverted lists, on the CPU.

        Raises:
            RuntimeError: FAISS has no such index for GPUs.
        """
        return import_faiss().index_cpu_to_gpu(self._resources, self._number, index)

    def nearest(self, queries: Tensor, vectors: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the scores and positions (Q, K) of the vectors with the largest inner products.

        Args:
            queries: (Q, D_g) float32 on the GPU.
            vectors: (N, D_g) float32 on the GPU; read where they lie.
            count: K.
        """
        faiss = import_faiss()
        scores = torch.empty(len(queries), count, device=self._device)
        positions = torch.empty(len(queries), count, dtype=torch.int64, device=self._device)
        # In the order of torch's own work: what made the queries comes first, what reads the
        # results after it.
        stream = torch.cuda.current_stream(self._device).cuda_stream
        self._resources.setDefaultStream(self._number, faiss.cast_integer_to_cudastream_t(stream))
        arguments = faiss.GpuDistanceParams()
        arguments.metric = faiss.METRIC_INNER_PRODUCT
        arguments.k, arguments.dims = count, vectors.shape[1]
        arguments.device = self._number
        arguments.numVectors, arguments.numQueries = len(vectors), len(queries)
        arguments.vectorType = arguments.queryType = faiss.DistanceDataType_F32
        arguments.vectorsRowMajor = arguments.queriesRowMajor = True
        arguments.vectors = faiss.cast_integer_to_float_ptr(vectors.data_ptr())
        arguments.queries = faiss.cast_integer_to_float_ptr(queries.data_ptr())
        arguments.outDistances = faiss.cast_integer_to_float_ptr(scores.data_ptr())
        arguments.outIndicesType = faiss.IndicesDataType_I64
        arguments.outIndices = faiss.cast_integer_to_idx_t_ptr(positions.data_ptr())
        # cuVS chooses its own arithmetic, which may be shorter than float32.
        arguments.use_cuvs = False
        faiss.bfKnn(self._resources, arguments)
        return scores, positions


@cache
def faiss_gpu(device: torch.device) -> FaissGpu | None:
    """Return FAISS's resources on a GPU; None where its build sees none there.

    Args:
        device: any of torch's.
    """
    try:
        faiss = import_faiss()
    except MissingDependencyError:
        return None
    # The build for CPUs has the function too, and counts none.
    if device.type != "cuda" or faiss.get_num_gpus() <= (device.index or 0):
        return None
    try:
        return FaissGpu(device)
    except RuntimeError as error:  # no memory, or another driver than its build wants
        _log.warning("FAISS cannot use %s (%s)", device, _last_line(error))
        return None


class FaissPrefilter(GpuPrefilter):
    """A shard's prefilter on a GPU by FAISS.

    Filters are not FAISS's there: its GPU indexes take no selectors. So where not every item may
    answer, the vectors are scanned with a mask, exactly, as for more candidates than FAISS selects.

    Args:
        shard: whose vectors they are.
        vectors: (N, D_g) float32 on the GPU, in rows one behind the other.
        library: FAISS on that GPU.

    Raises:
        RuntimeError: FAISS cannot search them there, or finds others than it must.
    """

    def __init__(self, shard: Shard, vectors: Tensor, library: FaissGpu) -> None:
        super().__init__(shard, vectors.contiguous())
        self._library = library
        self._lists: Any = None
        lists = shard.prefilter.inverted_lists()
        if lists is not None:
            self._lists = library.moved(lists)
            # As on the CPU: lists that are not probed hold items that nothing bounds.
            self.facts = shard.prefilter.facts
        self._check()

    def search(self, queries: Floats, count: int, mask: Mask | None) -> list[ShardCandidates]:
        """Return the best items for each query; see `Prefilter.search`.

        Args:
            queries: (Q, D_g) float32, on the host.
            count: K, candidates of each query.
            mask: (N,) which items may answer; None where all may.
        """
        if mask is not None or count > MOST_NEAREST:
            return super().search(queries, count, mask)
        count = min(count, len(self._gpu_vectors))
        with self._library.lock:
            scores, positions = self._nearest(queries, count)
        answers = []
        for number, pair in enumerate(zip(positions, scores, strict=True)):
            candidates = ShardCandidates(*pair)
            if candidates.positions[-1] < 0:  # its lists held too few: as on the CPU
                [candidates] = super().search(queries[number : number + 1], count, None)
            answers.append(candidates)
        return answers

    def _nearest(self, queries: Floats, count: int) -> tuple[Floats, Any]:
        """Return scores and positions (Q, K) as FAISS gives them, on the host."""
        if self._lists is not None:
            scores, positions = self._lists.search(np.ascontiguousarray(queries), count)
            return scores, positions
        on_gpu = send(queries, self._gpu_vectors.device)
        near_scores, near_positions = self._library.nearest(on_gpu, self._gpu_vectors, count)
        return near_scores.cpu().numpy(), near_positions.cpu().numpy()

    def _check(self) -> None:
        """Hold FAISS to the exact scan on a few of the shard's own vectors.

        A build without code for this very card may give zeros without a word, and certificates
        count on its scores.

        Raises:
            RuntimeError: its positions or scores are not those of the vectors.
        """
        probes = self._gpu_vectors[:PROBES].cpu().numpy()
        for query, candidates in zip(probes, self.search(probes, PROBES, None), strict=True):
            positions = candidates.positions
            if positions.min() < 0 or positions.max() >= len(self._gpu_vectors):
                raise RuntimeError(f"it gives positions such as {positions.min()}")
            exact = self._gpu_vectors[torch.from_numpy(positions)].double().cpu().numpy() @ query
            error = float(np.abs(candidates.scores - exact).max())
            # Lists of codes lose what their kind loses; NaN is refused either way.
            if not (error <= self.facts.score_error(query)):
                raise RuntimeError(f"its scores are off by {error:.1e}")


def gpu_prefilter(shard: Shard, vectors: Tensor) -> Prefilter:
    """Return the prefilter of a shard whose vectors are on a GPU.

    Args:
        shard: whose vectors they are.
        vectors: (N, D_g) float32 on the GPU.
    """
    library = faiss_gpu(vectors.device)
    if library is None:
        _say_torch_scans(str(vectors.device))
        return GpuPrefilter(shard, vectors)
    try:
        return FaissPrefilter(shard, vectors, library)
    except RuntimeError as error:  # FAISS's own: no memory, or a build without this GPU's code
        _log.warning(
            "%s: FAISS cannot search it on %s (%s); torch scans its vectors there",
            shard.folder, vectors.device, _last_line(error),
        )  # fmt: skip
        return GpuPrefilter(shard, vectors)


@cache
def _say_torch_scans(device: str) -> None:
    """Say once which of the two ways is taken: both are right, and differ in speed."""
    _log.info("FAISS sees no %s: torch scans the vectors of all shards there, exactly", device)


def _last_line(error: Exception) -> str:
    """Return FAISS's reason, which stands behind a page of C++."""
    lines = str(error).strip().splitlines()
    return lines[-1][-200:] if lines else type(error).__name__
