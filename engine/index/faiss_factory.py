"""Which FAISS index a prefilter is: by size, by a factory string, or smaller where items are few.

FAISS refuses to train on too few points, warns on stderr where they are few, and a rotation
trained on fewer points than it has dimensions has it write outside its memory. So what a kind
asks for is known before anything is encoded or trained.
"""

from __future__ import annotations

import logging
import math
import re
from typing import Any

from hficma.errors import InputError, MissingDependencyError

FLAT_LIMIT = 20_000
"""Above this many items the default is SQfp16: half the bytes of Flat, the same recall."""
POINTS_A_CENTROID = 39
"""FAISS warns that a centroid has fewer training points."""

_log = logging.getLogger("hficma")


def default_factory(count: int | None) -> str:
    """The prefilter for an index of `count` items, None for unknown: one that can certify."""
    return "Flat" if count is not None and count <= FLAT_LIMIT else "SQfp16"


def check_factory(spec: str, width: int) -> None:
    """Refuse a factory string that FAISS does not know, or not for vectors of this width.

    Args:
        spec: the string.
        width: D_g.

    Raises:
        InputError: naming it, and why.
    """
    if spec != "Flat":
        empty_index(spec, width, 1000)


def empty_index(spec: str, width: int, count: int) -> Any:
    """An untrained FAISS index.

    Args:
        spec: a factory string; `IVF` without a number of lists takes 4 √N, and `HNSW` 32 links.
        width: D_g.
        count: N, items that it will hold.

    Raises:
        InputError: FAISS does not make such an index.
    """
    faiss = import_faiss()
    lists = max(1, min(int(4 * math.sqrt(count)), count // POINTS_A_CENTROID))
    full = re.sub(r"\bIVF(?=,|$)", f"IVF{lists}", re.sub(r"\bHNSW(?=,|$)", "HNSW32", spec))
    if full.startswith("IVF") and "," not in full:
        full += ",Flat"
    full = re.sub(r"\bSQ16\b", "SQfp16", full)
    others = "take Flat, SQfp16, SQ8, IVF,SQ8, HNSW or another factory string"
    try:
        index = faiss.index_factory(width, full, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        # Its reason stands behind a page of C++; where it has none, it does not know the string.
        reason = re.search(r"' failed: +(\S.*)", str(error).strip().splitlines()[-1])
        said = f" for vectors of {width} numbers ({reason[1]})" if reason else ""
        raise InputError(
            f"prefilter {spec!r}: FAISS knows no such index{said}; {others}"
        ) from error
    if isinstance(index, faiss.IndexIDMap):
        raise InputError(f"prefilter {spec!r}: numbers its items itself; {others}")
    return index


def trainable_index(spec: str, width: int, count: int) -> tuple[str, Any]:
    """An untrained FAISS index of a kind that so many items can train.

    Where they are too few for `spec`, it is the kind that an index of their number has by default:
    an exact scan of that few takes no longer. This is logged.

    Args:
        spec: the kind wanted.
        width: D_g.
        count: N, items that will train it.

    Returns:
        the kind taken, and the index; None for `Flat`.
    """
    if spec == "Flat":
        return spec, None
    index = empty_index(spec, width, count)
    wanted, least = training_points(index)
    # A larger shard is no better served by its default: then it is trained on what there is.
    if count < (wanted if count <= FLAT_LIMIT else least):
        return smaller(spec, count, width, f"it is trained on {wanted} or more")
    _train_quietly(index)
    return spec, index


def smaller(spec: str, count: int, width: int, reason: str) -> tuple[str, Any]:
    """The kind for items that are too few for `spec`, and its untrained index; logged.

    Args:
        spec: the kind wanted.
        count: N.
        width: D_g.
        reason: why they are too few.
    """
    taken = default_factory(count)
    items = "1 item is" if count == 1 else f"{count} items are"
    _log.warning(
        f"prefilter {spec}: {items} too few ({reason}); a shard of them takes {taken} until "
        "it is merged into a larger one"
    )
    return taken, None if taken == "Flat" else empty_index(taken, width, count)


def training_points(index: Any) -> tuple[int, int]:
    """How many points train a FAISS index well, and how many at least.

    Args:
        index: untrained.
    """
    wanted = [1]
    least = [1]
    for part in _parts(index):
        for centroids in _centroids(part):
            wanted.append(POINTS_A_CENTROID * centroids)
            least.append(centroids)
        dimensions = _dimensions(part)
        wanted.append(dimensions)
        least.append(dimensions)
    return max(wanted), max(least)


def _parts(index: Any) -> list[Any]:
    """An index and those inside it, and the transforms in front, each as what it really is."""
    faiss = import_faiss()
    index = faiss.downcast_index(index)
    parts = [index]
    if isinstance(index, faiss.IndexPreTransform):
        chain = (index.chain.at(number) for number in range(index.chain.size()))
        parts += map(faiss.downcast_VectorTransform, chain)
    for inner in ("index", "base_index", "storage", "quantizer", "refine_index"):
        if (part := getattr(index, inner, None)) is not None:
            parts += _parts(part)
    return parts


def _centroids(part: Any) -> list[int]:
    """How many centroids each clustering has that a part's training makes."""
    faiss = import_faiss()
    found = []
    if isinstance(part, faiss.IndexIVF) and not hasattr(part.quantizer, "pq"):
        found.append(int(part.nlist))  # those of a multi-index are products of fewer
    if isinstance(part, faiss.OPQMatrix):
        found.append(256)  # of a product quantizer of bytes, whatever comes behind
    elif (quantizer := getattr(part, "pq", None)) is not None:
        found.append(int(quantizer.ksub))
    for name in ("rq", "lsq", "prq", "plsq"):
        if (additive := getattr(part, name, None)) is not None:
            bits = additive.nbits
            found.append(1 << max(int(bits.at(number)) for number in range(bits.size())))
    return found


def _dimensions(part: Any) -> int:
    """Points that span the space a part works in, where its training needs so many."""
    faiss = import_faiss()
    if isinstance(part, faiss.VectorTransform):
        return 1 if part.is_trained else int(max(part.d_in, part.d_out))
    if any(hasattr(part, name) for name in ("rq", "lsq", "prq", "plsq")):
        return int(part.d)  # begins with a PCA
    return 101 if isinstance(part, faiss.IndexNSG) else 1


def _train_quietly(index: Any) -> None:
    """Let FAISS train on few points without a word on stderr."""
    for part in _parts(index):
        for owner in (part, getattr(part, "pq", None), getattr(part, "rq", None)):
            if (options := getattr(owner, "cp", None)) is not None:
                options.min_points_per_centroid = 1


def import_faiss() -> Any:
    """FAISS, imported when needed.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingDependencyError("faiss", "cpu", "searching an index") from error
    return faiss
