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
    """Return the kind of prefilter for an index of some size: always one that can certify.

    Args:
        count: N, items; None where nobody knows how many are to come.
    """
    return "Flat" if count is not None and count <= FLAT_LIMIT else "SQfp16"


def check_factory(spec: str, width: int) -> None:
    """Refuse a factory string that FAISS does not know, or not for vectors of this width.

    Args:
        spec: the string.
        width: D_g.

    Raises:
        InputError: it names the string, and FAISS's reason.
    """
    if spec != "Flat":
        empty_index(spec, width, 1000)


def empty_index(spec: str, width: int, count: int) -> Any:
    """Return an untrained FAISS index of inner products.

    Args:
        spec: a factory string; `IVF` without a number of lists takes 4 √N, and `HNSW` 32 links.
        width: D_g.
        count: N, items that it will hold.

    Raises:
        InputError: FAISS does not make such an index.
    """
    faiss = import_faiss()
    lists = max(1, min(int(4 * math.sqrt(count)), count // POINTS_A_CENTROID))
    # Each default is written out before the next is looked for, which may stand behind it.
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
        detail = f" for vectors of {width} numbers ({reason[1]})" if reason else ""
        raise InputError(
            f"prefilter {spec!r}: FAISS knows no such index{detail}; {others}"
        ) from error
    if isinstance(index, faiss.IndexIDMap):
        raise InputError(f"prefilter {spec!r}: numbers its items itself; {others}")
    return index


def trainable_index(spec: str, width: int, count: int) -> tuple[str, Any]:
    """Return an untrained FAISS index of a kind that so many items can train.

    Where they are too few for `spec`, it is the kind that an index of their number has by default:
    an exact scan of that few takes no longer. This is logged.

    Args:
        spec: the kind to prefer.
        width: D_g.
        count: N, items that will train it.

    Returns:
        the kind, and the index; None for `Flat`.
    """
    if spec == "Flat":
        return spec, None
    index = empty_index(spec, width, count)
    enough, least = training_points(index)
    # A larger shard is no better served by its default: then it is trained on what there is.
    if count < (enough if count <= FLAT_LIMIT else least):
        return smaller_index(spec, count, width, f"it is trained on {enough} or more")
    _train_quietly(index)
    return spec, index


def smaller_index(spec: str, count: int, width: int, reason: str) -> tuple[str, Any]:
    """Return the kind for items that are too few for `spec`, and its untrained index; logged.

    Args:
        spec: the kind that they are too few for.
        count: N.
        width: D_g.
        reason: why they are too few.

    Returns:
        the kind, and the index; None for `Flat`.
    """
    kind = default_factory(count)
    items = "1 item is" if count == 1 else f"{count} items are"
    _log.warning(
        f"prefilter {spec}: {items} too few ({reason}); a shard of them takes {kind} until "
        "it is merged into a larger one"
    )
    return kind, None if kind == "Flat" else empty_index(kind, width, count)


def training_points(index: Any) -> tuple[int, int]:
    """Return how many points train a FAISS index well, and how many at least.

    Args:
        index: untrained.
    """
    enough = [1]
    least = [1]
    for component in _components(index):
        for centroids in _centroids(component):
            enough.append(POINTS_A_CENTROID * centroids)
            least.append(centroids)
        dimensions = _dimensions(component)
        enough.append(dimensions)
        least.append(dimensions)
    return max(enough), max(least)


def _components(index: Any) -> list[Any]:
    """Return an index, those inside it and the transforms in front, each as its own class."""
    faiss = import_faiss()
    index = faiss.downcast_index(index)
    components = [index]
    if isinstance(index, faiss.IndexPreTransform):
        chain = (index.chain.at(number) for number in range(index.chain.size()))
        components += map(faiss.downcast_VectorTransform, chain)
    for name in ("index", "base_index", "storage", "quantizer", "refine_index"):
        if (inner := getattr(index, name, None)) is not None:
            components += _components(inner)
    return components


def _centroids(component: Any) -> list[int]:
    """Return how many centroids each clustering has that a component's training makes."""
    faiss = import_faiss()
    counts = []
    if isinstance(component, faiss.IndexIVF) and not hasattr(component.quantizer, "pq"):
        counts.append(int(component.nlist))  # those of a multi-index are products of fewer
    if isinstance(component, faiss.OPQMatrix):
        counts.append(256)  # of a product quantizer of bytes, whatever comes behind
    elif (quantizer := getattr(component, "pq", None)) is not None:
        counts.append(int(quantizer.ksub))
    for name in ("rq", "lsq", "prq", "plsq"):
        if (additive := getattr(component, name, None)) is not None:
            bits = additive.nbits
            counts.append(1 << max(int(bits.at(number)) for number in range(bits.size())))
    return counts


def _dimensions(component: Any) -> int:
    """Return the points that span the space of a component, where its training needs so many."""
    faiss = import_faiss()
    if isinstance(component, faiss.VectorTransform):
        return 1 if component.is_trained else int(max(component.d_in, component.d_out))
    if any(hasattr(component, name) for name in ("rq", "lsq", "prq", "plsq")):
        return int(component.d)  # begins with a PCA
    return 101 if isinstance(component, faiss.IndexNSG) else 1


def _train_quietly(index: Any) -> None:
    """Let FAISS train on few points without a word on stderr."""
    for component in _components(index):
        for owner in (component, getattr(component, "pq", None), getattr(component, "rq", None)):
            if (options := getattr(owner, "cp", None)) is not None:
                options.min_points_per_centroid = 1


def import_faiss() -> Any:
    """Return FAISS, imported when it is first needed, so that other commands start sooner.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingDependencyError("faiss", "cpu", "searching an index") from error
    return faiss
