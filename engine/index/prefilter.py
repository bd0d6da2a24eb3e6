"""A shard's prefilter, the first stage over global vectors: a FAISS index, and its largest error.

`Flat` reads the shard's exact vectors where they lie, mapped from the disk. Every other kind is
a FAISS index beside them. Scalar-quantised kinds are bounded: the largest error of a stored
vector is recorded, so that answers can be certified. IVF and HNSW skip items: no bound holds.
"""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hficma.errors import ArtifactError
from hficma.types import Floats, Mask

from ..files.checksums import CheckedFile
from ..files.ragged import Rows, whole_rows
from .candidates import ShardCandidates, dot_error
from .faiss_factory import import_faiss, smaller_index, trainable_index

FILE = "prefilter.faiss"
TRAINING_VECTORS = 100_000
"""Vectors that train a FAISS index, at most twice as many: more of them change its lists little."""
BLOCK = 8192
"""Vectors worked on at once: 32 MB at D_g = 1024."""

PROBED_LISTS = 8
"""Lists of an IVF index that a search reads at least (FAISS's `nprobe`)."""
PROBED_SHARE = 16
"""Of an IVF index with many lists, a search reads one in so many."""

_log = logging.getLogger("hficma")


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

    def score_error(self, query: Floats) -> float:
        """Return δ for one query: how far a score of the prefilter may be from g; inf if unknown.

        With x̃ = x + e the stored vector, |q·x̃ - q·x| = |q·e| is at most ‖q‖₁ max|e| and at most
        ‖q‖₂ max‖e‖₂ (Hölder and Cauchy-Schwarz); the float32 rounding of q·x̃ comes on top.

        Args:
            query: (D_g,) float32.
        """
        if not self.bounded:
            return math.inf
        wide = query.astype(np.float64)
        norm = float(np.linalg.norm(wide))
        stored = min(float(np.abs(wide).sum()) * self.error_entry, norm * self.error_norm)
        return stored + dot_error(len(query), norm, self.largest_norm + self.error_norm)


def build_prefilter(vectors: Floats, spec: str, folder: Path) -> PrefilterFacts:
    """Build the prefilter of a shard.

    Args:
        vectors: (N, D_g) float32, memory-mapped.
        spec: `Flat`, `SQfp16`, `SQ8`, `IVF,SQ8`, `HNSW`, or any FAISS factory string; IVF
            without a number of lists takes 4 √N.
        folder: where `prefilter.faiss` is written; nothing is for `Flat`.

    Returns:
        what the shard records: of another kind than `spec` where the items are too few for it.
    """
    # In float64 and rounded up once: a norm that came out too small would make the bound too tight.
    largest = 0.0
    for start in range(0, len(vectors), BLOCK):
        norms = np.linalg.norm(vectors[start : start + BLOCK].astype(np.float64), axis=1)
        largest = max(largest, float(norms.max()))
    spec, index = _trained(vectors, spec)
    if index is None:
        return PrefilterFacts(factory=spec, bounded=True, largest_norm=_up(largest))
    faiss = import_faiss()
    for start in range(0, len(vectors), BLOCK):
        index.add(np.ascontiguousarray(vectors[start : start + BLOCK]))
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


def _trained(vectors: Floats, spec: str) -> tuple[str, Any]:
    """Return the kind of FAISS index and an empty one, trained on the vectors; None for Flat."""
    count, width = vectors.shape
    kind, index = trainable_index(spec, width, count)
    step = max(1, count // TRAINING_VECTORS)
    try:
        if index is not None:
            index.train(np.ascontiguousarray(vectors[::step]))
    except RuntimeError as error:  # a kind whose needs are not known before
        reason = str(error).strip().splitlines()[-1][-200:]
        kind, index = smaller_index(spec, count, width, reason)
        if index is not None:
            index.train(np.ascontiguousarray(vectors[::step]))
    return kind, index


class Prefilter:
    """A shard's prefilter, open for searches from any thread.

    Args:
        facts: as recorded.
        vectors: (N, D_g) float32, the exact ones, compared with their checksums when read.
        file: the FAISS index's; None for Flat.
    """

    def __init__(self, facts: PrefilterFacts, vectors: Rows, file: CheckedFile | None) -> None:
        self.facts = facts
        self._vectors = vectors
        self._file = file
        self._faiss_index: Any = None
        self._lock = threading.Lock()
        self._reported: set[str] = set()

    @property
    def _index(self) -> Any:
        """Return the FAISS index, read from its file at first use; None for Flat.

        FAISS takes what a file says for granted, sizes and pointers alike: nothing of it is read
        before all of it was compared with its checksums.
        """
        if self._file is None or self._faiss_index is not None:
            return self._faiss_index
        with self._lock:
            if self._faiss_index is None:
                self._file.check_all()
                self._faiss_index = _read_index(self._file, *self._vectors.shape)
        return self._faiss_index

    def inverted_lists(self) -> Any:
        """Return the FAISS index if it is one of inverted lists, for a GPU to take; else None.

        It probes as many lists as searches here do: a GPU's takes that from the index.
        """
        faiss = import_faiss()
        if self._index is None or faiss.try_extract_index_ivf(self._index) is None:
            return None
        lists = faiss.extract_index_ivf(self._index)
        lists.nprobe = _probed_lists(lists)
        return self._index

    def search(self, queries: Floats, count: int, mask: Mask | None) -> list[ShardCandidates]:
        """Return the best items for each of Q queries.

        Args:
            queries: (Q, D_g) float32.
            count: K, candidates of each query; fewer come only where fewer may answer.
            mask: (N,) which items may answer; None where all may.

        Raises:
            ArtifactError: the vectors or the FAISS index are not as they were written.
        """
        available = len(self._vectors) if mask is None else int(mask.sum())
        count = min(count, available)
        if count == 0:
            nothing = ShardCandidates(np.empty(0, np.int64), np.empty(0, np.float32))
            return [nothing] * len(queries)
        if self._index is None:
            if mask is None and len(queries) > 1:
                # One pass over the vectors for all queries. It takes no mask: with one, each
                # query scans by itself.
                faiss = import_faiss()
                scores, positions = faiss.knn(
                    queries, whole_rows(self._vectors), count, metric=faiss.METRIC_INNER_PRODUCT
                )
                return [ShardCandidates(*pair) for pair in zip(positions, scores, strict=True)]
            return [self._scan(query, count, mask) for query in queries]
        try:
            scores, positions = self._index.search(
                queries, count, params=self._parameters(self._index, count, mask)
            )
        except RuntimeError:
            if mask is None:
                raise
            self._report(logging.WARNING, "takes no filter")
            return [self._scan(query, count, mask) for query in queries]
        return [
            self._complete(query, ShardCandidates(*pair), mask)
            for query, *pair in zip(queries, positions, scores, strict=True)
        ]

    def _complete(
        self, query: Floats, candidates: ShardCandidates, mask: Mask | None
    ) -> ShardCandidates:
        """Return candidates as FAISS gave them, or those of a scan where it reached too few.

        Graphs and lists may reach fewer items than exist, the more so under a filter: FAISS then
        fills up with -1. A filter must leave k answers wherever k items pass it.
        """
        if candidates.positions[-1] >= 0:
            return candidates
        self._report(logging.INFO, "reached fewer items than were asked for")
        return self._scan(query, len(candidates.positions), mask)

    def _report(self, level: int, reason: str) -> None:
        """Log once why the exact vectors are scanned in the place of the FAISS index."""
        if reason not in self._reported:
            self._reported.add(reason)
            where = self._file.path if self._file is not None else FILE
            _log.log(
                level, "%s: a FAISS index %s %s; the exact vectors are scanned instead",
                where, self.facts.factory, reason,
            )  # fmt: skip

    def scores(self, query: Floats) -> Floats:
        """Return g of all items (N,) from the exact vectors, within `rounding_error`.

        Args:
            query: (D_g,) float32.
        """
        faiss = import_faiss()
        vectors = whole_rows(self._vectors)
        count, width = vectors.shape
        query = np.ascontiguousarray(query)
        out = np.empty(count, dtype=np.float32)
        faiss.fvec_inner_products_ny(
            faiss.swig_ptr(out), faiss.swig_ptr(query), faiss.swig_ptr(vectors), width, count
        )
        return out

    def rounding_error(self, query: Floats) -> float:
        """Return how far `scores` may be from g.

        Args:
            query: (D_g,) float32.
        """
        norm = float(np.linalg.norm(query.astype(np.float64)))
        return dot_error(len(query), norm, self.facts.largest_norm)

    def _scan(self, query: Floats, count: int, mask: Mask | None) -> ShardCandidates:
        """Return the best items by their exact vectors, every one of which is compared."""
        scores = self.scores(query)
        positions = np.arange(len(scores)) if mask is None else np.flatnonzero(mask)
        scores = scores[positions]
        if count < len(scores):
            best = np.argpartition(scores, len(scores) - count)[-count:]
            positions, scores = positions[best], scores[best]
        order = np.argsort(-scores, kind="stable")
        return ShardCandidates(positions[order], scores[order])

    def _parameters(self, index: Any, count: int, mask: Mask | None) -> Any:
        """Return FAISS's search parameters for a kind of index; None where it needs none."""
        faiss = import_faiss()
        index = faiss.downcast_index(index)
        if isinstance(index, faiss.IndexPreTransform):
            inner = self._parameters(index.index, count, mask)
            return inner and faiss.SearchParametersPreTransform(index_params=inner)
        selector: dict[str, Any] = {}
        if mask is not None:
            selector["sel"] = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        if isinstance(index, faiss.IndexIVF):
            return faiss.SearchParametersIVF(nprobe=_probed_lists(index), **selector)
        if isinstance(index, faiss.IndexHNSW):
            # The nearest nodes so far that the walk through the graph goes on from: at least as
            # many as are returned, and more of them find more of the true neighbours.
            return faiss.SearchParametersHNSW(efSearch=max(64, 2 * count), **selector)
        return faiss.SearchParameters(**selector) if selector else None


def _probed_lists(index: Any) -> int:
    """Return how many lists of an IVF index a search reads: those nearest to the query.

    A share of all: with 4 √N lists a sixteenth of them holds about N / 16 vectors, whatever N. In a
    small index at least 8, since with few lists a query often lies on a border between several.
    """
    lists = int(index.nlist)
    return min(max(PROBED_LISTS, lists // PROBED_SHARE), lists)


def _read_index(file: CheckedFile, count: int, width: int) -> Any:
    """Read a shard's FAISS index, its codes left where they are: the file's bytes must outlive it.

    Args:
        file: compared with its checksums already.
        count: N, vectors that it must hold.
        width: D_g.

    Raises:
        ArtifactError: it is no FAISS index, or one of other vectors.
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


def _stored_error(index: Any, vectors: Floats) -> tuple[float, float]:
    """Return max ‖e‖₂ and max |e| over the errors e of an index's stored vectors.

    They are measured on every vector, not bounded by the width of a quantisation step: SQ8's steps
    follow from the training vectors' range, and a vector outside of it is cut to its ends.
    """
    norm = entry = 0.0
    for start in range(0, len(vectors), BLOCK):
        exact = vectors[start : start + BLOCK].astype(np.float64)
        lost = index.reconstruct_n(start, len(exact)) - exact
        norm = max(norm, float(np.linalg.norm(lost, axis=1).max()))
        entry = max(entry, float(np.abs(lost).max()))
    return norm, entry


def _up(value: float) -> float:
    """Return a little more, so that a bound survives its own rounding."""
    return value * (1.0 + 1e-9)
