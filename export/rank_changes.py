"""What the precision of a bundle does to its answers: the top ten, and R@1 and R@10.

Differences of scores say how a graph was rounded, not whether anyone would notice. So photos look
for their recipes by the torch model and by the bundle, among the same candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hficma.engine.bundle.bundle import Bundle
from hficma.engine.runtimes import Arrays
from hficma.engine.runtimes.reference import array_name, arrays_of
from hficma.types import Array, Floats, Mask, Positions

from .bundle_run import batch_vectors
from .calibration_items import CalibrationItems, item_arrays

BATCH = 16
"""Items that a graph runs on at once."""
CANDIDATES = 100
"""Candidates re-ranked for a query's top ten, as a search does."""
TOP = 10
"""Answers of a query that are compared."""
TIE = 1e-4
"""Items this close to the tenth score, as a share of it, may stand in for each other."""
LEAST_OVERLAP = {"fp32": 1.0, "fp16": 0.99}
"""Share of the top ten that a precision must leave as it is; others have no such bound."""


@dataclass(frozen=True, kw_only=True)
class RankChange:
    """What a precision does to answers."""

    precision: str
    """Precision of the graphs."""
    runtime: str
    """The runtime that ran them."""
    queries: int
    """Photos that looked for their recipe."""
    overlap: float
    """Share of the torch model's top ten that is in the bundle's, ties with the tenth counted."""
    recall: dict[int, float]
    """R@1 and R@10 in percent."""
    reference_recall: dict[int, float]
    """The same by the torch model."""
    tests: int = 0
    """How many of the queries are test pairs of the dataset."""
    test_recall: dict[int, float] | None = None
    """R@1 and R@10 of the test pairs alone: training may have seen the others."""
    test_reference_recall: dict[int, float] | None = None
    """The same by the torch model."""

    @property
    def within_tolerance(self) -> bool:
        """Return whether the change is within the tolerance of its precision."""
        if self.overlap < LEAST_OVERLAP.get(self.precision, 0.0):
            return False
        # One point of R@10; with few queries two of them, which are more.
        allowed = max(1.0, 200 / self.queries)
        return abs(self.recall[10] - self.reference_recall[10]) <= allowed


def rank_change(bundle: Bundle, torch_bundle: Bundle, items: CalibrationItems) -> RankChange:
    """Let every photo look for its recipe, by a bundle and by the torch model.

    Each query re-ranks the same candidates, the torch model's best by S_global and its own
    recipe, so that both answer the same question.

    Args:
        bundle: in the precision and runtime to judge.
        torch_bundle: the same one, run by torch.
        items: N pairs.
    """
    expected, actual = encode_items(torch_bundle, items), encode_items(bundle, items)
    count = len(items.recipes)
    size = min(CANDIDATES, count)
    by_global = expected["image_global"] @ expected["recipe_global"].T
    np.fill_diagonal(by_global, np.inf)  # the query's own recipe is always a candidate
    candidates = np.argpartition(-by_global, size - 1, axis=1)[:, :size]
    expected_ranks, actual_ranks, overlaps = [], [], []
    for query, positions in enumerate(candidates):
        expected_scores = score_candidates(torch_bundle, expected, query, positions)
        actual_scores = score_candidates(bundle, actual, query, positions)
        overlaps.append(_overlap(expected_scores, actual_scores))
        partner = int(np.flatnonzero(positions == query)[0])
        expected_ranks.append(_rank(expected_scores, partner))
        actual_ranks.append(_rank(actual_scores, partner))
    test = np.zeros(count, dtype=np.bool_) if items.test is None else items.test
    return RankChange(
        precision=bundle.execution.precision,
        runtime=bundle.runtime("image").describe().runtime,
        queries=count,
        overlap=float(np.mean(overlaps)),
        recall=_recall(actual_ranks),
        reference_recall=_recall(expected_ranks),
        tests=int(test.sum()),
        test_recall=_recall(actual_ranks, test) if test.any() else None,
        test_reference_recall=_recall(expected_ranks, test) if test.any() else None,
    )


def encode_items(bundle: Bundle, items: CalibrationItems) -> dict[str, Array]:
    """Compute the global vectors of items and what else pair scores need.

    The photos' tables are left out, which are large: `score_candidates` makes that of its query.

    Returns:
        arrays as `array_name` names them, N items each.
    """
    known = dict(item_arrays(items))

    def run(graph: str) -> None:
        inputs = arrays_of(graph, bundle.graph(graph).inputs, known)
        rows = len(next(iter(inputs.values())))
        parts = [
            bundle.run(graph, {name: part[start : start + BATCH] for name, part in inputs.items()})
            for start in range(0, rows, BATCH)
        ]
        for port in parts[0]:
            known[array_name(graph, port)] = np.concatenate([part[port] for part in parts])

    run("image")
    for graph in ("sentence", "text"):
        if graph in bundle.facts.graphs:
            run(graph)
    known |= batch_vectors(known)
    run("recipe")
    if bundle.has_local:
        for graph in ("project_image", "project_recipe", "tabulate_recipe"):
            run(graph)
    return known


def score_candidates(bundle: Bundle, items: Arrays, query: int, candidates: Positions) -> Floats:
    """Compute S of one photo and K recipes.

    Args:
        bundle: whose graphs run.
        items: arrays of `encode_items`.
        query: position of the photo.
        candidates: (K,) positions of the recipes.

    Returns:
        (K,).
    """
    if not bundle.has_local:
        scores: Floats = items["recipe_global"][candidates] @ items["image_global"][query]
        return scores
    inputs = {}
    for port in bundle.graph("cross_tables").inputs:
        if port == "image_table":
            value = items["image_value"][query : query + 1]
            inputs[port] = bundle.run("tabulate_image", {"value": value})["table"][None]
        else:
            rows = [query] if port.startswith("image") else candidates
            inputs[port] = items[port][rows][None]
    score: Floats = bundle.run("cross_tables", inputs)["score"][0, 0]
    return score


def _overlap(expected: Floats, actual: Floats) -> float:
    """Return the share of the top ten by `actual` that is among the top ten by `expected`."""
    tenth = np.sort(expected)[-min(TOP, len(expected))]
    top = np.argsort(-actual, kind="stable")[:TOP]
    return float((expected[top] >= tenth - TIE * max(1.0, abs(tenth))).mean())


def _rank(scores: Floats, partner: int) -> int:
    """Return the rank of one candidate from 1, ties against it; a NaN ranks last."""
    return int((~(scores < scores[partner])).sum())


def _recall(ranks: Sequence[int], members: Mask | None = None) -> dict[int, float]:
    """Return R@1 and R@10 in percent, of all ranks or of some."""
    counted = np.array(ranks) if members is None else np.array(ranks)[members]
    return {k: float(100 * (counted <= k).mean()) for k in (1, 10)}
