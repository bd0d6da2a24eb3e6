"""What an engine is put together from: index and bundle, threads, a scorer, an encoder.

An engine over a cluster and the servers of its shards take the same parts in other places.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from hficma.errors import ArtifactError
from hficma.images.crops import check_crops

from .bundle.bundle import Bundle
from .encoder import QueryEncoder
from .index.index import Index, IndexRecords
from .index.index_facts import model_mismatch
from .retrieval.scoring import CpuScorer, Scorer
from .runtimes.options import ExecutionOptions

AnyIndex = TypeVar("AnyIndex", bound=IndexRecords)


def open_index_and_bundle(
    index_class: type[AnyIndex],
    stack: ExitStack,
    index: str | os.PathLike[str],
    options: ExecutionOptions,
    *,
    bundle: str | os.PathLike[str] | None,
    photos: str | os.PathLike[str] | None,
    crops: int | None,
) -> tuple[AnyIndex, Bundle]:
    """Open an index and a bundle of its model, and check how queries shall be read.

    Args:
        index_class: `Index` to search it here, `IndexRecords` where others search it.
        stack: closes both.
        index: its folder.
        options: of the bundle.
        bundle: its folder; None takes the one that made the index.
        photos: folder of the index's photos, if they were moved.
        crops: of a photo; None takes as many as the index was made for.

    Raises:
        ArtifactError: one of them is missing or damaged, or they are of different models.
        InputError: photos cannot be cropped so.
    """
    if crops is not None:
        check_crops(crops)
    open_index: AnyIndex = index_class.open(
        Path(index), photos=None if photos is None else Path(photos)
    )
    stack.callback(open_index.close)
    path = open_index.facts.find_bundle(open_index.path) if bundle is None else Path(bundle)
    open_bundle = stack.enter_context(Bundle.open(path, options))
    check_same_model(open_index, open_bundle)
    return open_index, open_bundle


def open_pool(threads: int) -> ThreadPoolExecutor:
    """Return a pool whose threads search shards and score tiles.

    Args:
        threads: how many.
    """
    return ThreadPoolExecutor(threads, initializer=_one_faiss_thread)


def open_scorer(
    index: Index,
    bundle: Bundle,
    options: ExecutionOptions,
    pool: ThreadPoolExecutor,
    gpu_memory: float | None,
) -> Scorer:
    """Return what scores an index's items on the device of the options.

    Args:
        index: whose items are scored.
        bundle: of the index's model.
        options: of the bundle.
        pool: runs tiles of items.
        gpu_memory: GiB of a GPU for the index; None takes half of what is free.

    Raises:
        InputError: the device is not there, or the index does not fit it.
    """
    if options.device != "cpu":
        from .gpu.gpu_index import GpuIndex, cuda_device, index_bytes
        from .gpu.gpu_scorer import GpuScorer

        gpu = cuda_device(options.device)
        memory = index_bytes(gpu, gpu_memory)
        return GpuScorer(GpuIndex(index, bundle.facts.heads, gpu, memory), bundle)
    # Tiles run side by side, so each of their sessions takes one thread. In fp32, whatever encodes
    # queries: a certificate's ε counts on its rounding.
    tile_bundle = Bundle.open(bundle.path, options.changed(precision="fp32", threads=1))
    return CpuScorer(index, tile_bundle, pool)


def open_encoder(bundle: Bundle, options: ExecutionOptions) -> QueryEncoder | None:
    """Return what encodes queries on a GPU; None where the bundle's graphs do on the processors.

    Args:
        bundle: whose branches run.
        options: of the bundle.
    """
    if options.device == "cpu":
        return None
    from .gpu.gpu_index import cuda_device
    from .gpu.query_pipeline import QueryPipeline

    return QueryPipeline(bundle, cuda_device(options.device))


def check_same_model(index: IndexRecords, bundle: Bundle) -> None:
    """Refuse a bundle that cannot search an index.

    Raises:
        ArtifactError: it is of another model, or its arrays are of other sizes.
    """
    if bundle.model_id != index.facts.model_id:
        raise model_mismatch(index.path, index.facts, bundle)
    stores_encodings = index.facts.level is not None
    for shard in index.shards[:1]:  # `Index` holds the others to the first
        facts, sizes = shard.facts, bundle.facts
        if (
            stores_encodings != bundle.has_local
            or facts.global_dim != sizes.global_dim
            or (stores_encodings and facts.width != sizes.width)
            or (facts.level == "tables" and facts.heads != sizes.heads)
        ):
            raise ArtifactError(
                f"{index.path}: its arrays are not of the sizes of {bundle.path}; "
                "index again with this bundle"
            )


def _one_faiss_thread() -> None:
    """Let FAISS take one thread in each thread of the pool, which would otherwise take all."""
    import faiss

    faiss.omp_set_num_threads(1)
