"""The first pass over global vectors: FAISS indexes of one shard, and what they may be wrong by.

`Flat` reads the shard's exact vectors where they lie, mapped from the disk. Every other kind is
a FAISS index beside them. Scalar-quantised kinds are bounded: the largest error of a stored
vector is kept, so that answers can be certified. IVF and HNSW skip items: no bound holds.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hficma.errors import ArtifactError

from ..files.checksums import CheckedFile
from ..files.ragged import Rows, whole_rows
from .candidates import dot_error
from .faiss_factory import import_faiss, smaller, trainable_index

FILE = "prefilter.faiss"
TRAINING_VECTORS = 100_000
CHUNK = 8192

PROBED_LISTS = 8
"""IVF looks into at least this many lists,"""
PROBED_SHARE = 16
"""and at least one in so many."""

Vectors = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class ShardCandidates(NamedTuple):
    """The best items of one shard for one query."""

    positions: npt.NDArray[np.int64]
    """(n,) positions in the shard, by falling score."""
    scores: npt.NDArray[np.float32]
    """(n,) g, within the prefilter's error."""


@dataclass(frozen=True, kw_only=True)
class PrefilterFacts:
    """What a shard records of its prefilter."""

    factory: str
    """FAISS factory string."""
    bounded: bool
    """Whether its scores are within a known error of g, and no item is skipped."""
    largest_norm: float
    """max ‖x‖₂ over the shard's vectors, rounded up."""
    error_norm: float = 0.0
    """max ‖stored - x‖₂, rounded up."""
    error_entry: float = 0.0
    """max |stored - x| over single entries, rounded up."""

    def score_error(self, query: Vectors) -> float:
        """δ for one query (D_g,): how far a score of the prefilter may be from g.

        |q·x̃ - q·x| <= min(‖q‖₁ max|e|, ‖q‖₂ max‖e‖₂), and the float32 roundings of q·x̃.
        """
        if not self.bounded:
            return math.inf
        wide = query.astype(np.float64)
        norm = float(np.linalg.norm(wide))
        stored = min(float(np.abs(wide).sum()) * self.error_entry, norm * self.error_norm)
        return stored + dot_error(len(query), norm, self.largest_norm + self.error_norm)


def build_prefilter(vectors: Vectors, spec: str, folder: Path) -> PrefilterFacts:
    """Make the prefilter of a shard.

    Args:
        vectors: (N, D_g) float32, memory-mapped.
        spec: `Flat`, `SQfp16`, `SQ8`, `IVF,SQ8`, `HNSW`, or any FAISS factory string; IVF
            without a number of lists takes 4 √N.
        folder: where `prefilter.faiss` is written; nothing is for `Flat`.
    """
    largest = 0.0
    for start in range(0, len(vectors), CHUNK):
        norms = np.linalg.norm(vectors[start : start + CHUNK].astype(np.float64), axis=1)
        largest = max(largest, float(norms.max()))
    spec, index = _trained(vectors, spec)
    if index is None:
        return PrefilterFacts(factory=spec, bounded=True, largest_norm=_up(largest))
    faiss = import_faiss()
    for start in range(0, len(vectors), CHUNK):
        index.add(np.ascontiguousarray(vectors[start : start + CHUNK]))
    # FAISS's own writer hides why a file could not be written.
    (folder / FILE).write_bytes(faiss.serialize_index(index).data)
    # Only a plain scan over stored vectors scores every item by its stored vector.
    bounded = isinstance(index, (faiss.IndexScalarQuantizer, faiss.IndexFlat))
    error_norm, error_entry = _stored_error(index, vectors) if bounded else (0.0, 0.0)
    return PrefilterFacts(
        factory=spec,
        bounded=bounded,
        largest_norm=_up(largest),
        error_norm=_up(error_norm),
        error_entry=_up(error_entry),
    )


def _trained(vectors: Vectors, spec: str) -> tuple[str, Any]:
    """An empty FAISS index that was trained on the vectors, and its kind; None for Flat."""
    count, width = vectors.shape
    taken, index = trainable_index(spec, width, count)
    step = max(1, count // TRAINING_VECTORS)
    try:
        if index is not None:
            index.train(np.ascontiguousarray(vectors[::step]))
    except RuntimeError as error:  # a kind whose needs are not known before
        taken, index = smaller(spec, count, width, str(error).strip().splitlines()[-1][-200:])
        if index is not None:
            index.train(np.ascontiguousarray(vectors[::step]))
    return taken, index


class Prefilter:
    """A shard's prefilter, opened.

    Args:
        facts: as recorded.
        vectors: (N, D_g) float32, the exact ones, compared with their checksums when read.
        file: the FAISS index's; None for Flat.
    """

    def __init__(self, facts: PrefilterFacts, vectors: Rows, file: CheckedFile | None) -> None:
        self.facts = facts
        self._vectors = vectors
        self._file = file
        self._opened: Any = None
        self._lock = threading.Lock()

    @property
    def _index(self) -> Any:
        """The FAISS index, read from its file at first use; None for Flat.

        FAISS takes what a file says for granted, sizes and pointers alike: nothing of it is read
        before all of it was compared with its checksums.
        """
        if self._file is None or self._opened is not None:
            return self._opened
        with self._lock:
            if self._opened is None:
                self._file.check_all()
                self._opened = _read_index(self._file, *self._vectors.shape)
        return self._opened

    def search(self, queries: Vectors, count: int, allowed: Mask | None) -> list[ShardCandidates]:
        """The best items for each of Q queries.

        Args:
            queries: (Q, D_g) float32.
            count: items wanted; fewer only where fewer are allowed.
            allowed: (N,) which items may be found; None for all.
        """
        available = len(self._vectors) if allowed is None else int(allowed.sum())
        count = min(count, available)
        if count == 0:
            nothing = ShardCandidates(np.empty(0, np.int64), np.empty(0, np.float32))
            return [nothing] * len(queries)
        if self._index is None:
            if allowed is None and len(queries) > 1:
                faiss = import_faiss()
                scores, positions = faiss.knn(
                    queries, whole_rows(self._vectors), count, metric=faiss.METRIC_INNER_PRODUCT
                )
                return [ShardCandidates(*pair) for pair in zip(positions, scores, strict=True)]
            return [self._scan(query, count, allowed) for query in queries]
        try:
            scores, positions = self._index.search(
                queries, count, params=self._parameters(self._index, count, allowed)
            )
        except RuntimeError:
            # Some kinds take no selector: then the exact vectors are looked at.
            if allowed is None:
                raise
            return [self._scan(query, count, allowed) for query in queries]
        # Graphs and lists may reach fewer items than exist: then all are looked at.
        return [
            ShardCandidates(found, values) if found[-1] >= 0 else self._scan(query, count, allowed)
            for query, found, values in zip(queries, positions, scores, strict=True)
        ]

    def scores(self, query: Vectors) -> Vectors:
        """g of all items (N,) from the exact vectors, within `rounding`."""
        faiss = import_faiss()
        vectors = whole_rows(self._vectors)
        count, width = vectors.shape
        query = np.ascontiguousarray(query)
        out = np.empty(count, dtype=np.float32)
        faiss.fvec_inner_products_ny(
            faiss.swig_ptr(out), faiss.swig_ptr(query), faiss.swig_ptr(vectors), width, count
        )
        return out

    def rounding_error(self, query: Vectors) -> float:
        """How far `scores` may be from g."""
        norm = float(np.linalg.norm(query.astype(np.float64)))
        return dot_error(len(query), norm, self.facts.largest_norm)

    def _scan(self, query: Vectors, count: int, allowed: Mask | None) -> ShardCandidates:
        scores = self.scores(query)
        positions = np.arange(len(scores)) if allowed is None else np.flatnonzero(allowed)
        scores = scores[positions]
        if count < len(scores):
            best = np.argpartition(scores, len(scores) - count)[-count:]
            positions, scores = positions[best], scores[best]
        order = np.argsort(-scores, kind="stable")
        return ShardCandidates(positions[order], scores[order])

    def _parameters(self, index: Any, count: int, allowed: Mask | None) -> Any:
        faiss = import_faiss()
        index = faiss.downcast_index(index)
        if isinstance(index, faiss.IndexPreTransform):
            inner = self._parameters(index.index, count, allowed)
            return inner and faiss.SearchParametersPreTransform(index_params=inner)
        selector: dict[str, Any] = {}
        if allowed is not None:
            selector["sel"] = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        if isinstance(index, faiss.IndexIVF):
            lists = max(PROBED_LISTS, index.nlist // PROBED_SHARE)
            return faiss.SearchParametersIVF(nprobe=min(lists, index.nlist), **selector)
        if isinstance(index, faiss.IndexHNSW):
            return faiss.SearchParametersHNSW(efSearch=max(64, 2 * count), **selector)
        return faiss.SearchParameters(**selector) if selector else None


def _read_index(file: CheckedFile, count: int, width: int) -> Any:
    """Read a shard's FAISS index of `count` vectors (D_g = `width`), its codes left where they are.

    The file's bytes must outlive it.
    """
    faiss = import_faiss()
    reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(file.content), len(file.content))
    try:
        index = faiss.read_index(reader, faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise ArtifactError(f"{file.path}: is damaged; make the index again") from error
    if (index.ntotal, index.d) != (count, width) or index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise ArtifactError(f"{file.path}: holds other vectors than its shard; make it again")
    return index


def _stored_error(index: Any, vectors: Vectors) -> tuple[float, float]:
    norm = entry = 0.0
    for start in range(0, len(vectors), CHUNK):
        exact = vectors[start : start + CHUNK].astype(np.float64)
        lost = index.reconstruct_n(start, len(exact)) - exact
        norm = max(norm, float(np.linalg.norm(lost, axis=1).max()))
        entry = max(entry, float(np.abs(lost).max()))
    return norm, entry


def _up(value: float) -> float:
    """A little more, so that a bound survives its own rounding."""
    return value * (1.0 + 1e-9)
