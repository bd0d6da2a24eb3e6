"""What an engine is put together from: threads, a scorer, an encoder, and a check that all fit.

An engine over a cluster and the servers of its shards take the same parts in other places.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hficma.errors import ArtifactError

from .bundle.bundle import Bundle
from .encoder import QueryEncoder
from .index.index import Index
from .index.index_facts import model_mismatch
from .retrieval.scoring import CpuScorer, Scorer
from .runtimes.options import ExecutionOptions


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


def check_same_model(index: Index, bundle: Bundle) -> None:
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
