"""Proves a bundle equal to the torch model, in numbers and in what a user sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hficma.artifacts.manifest import read_manifest, verified_file
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.bundle.bundle_facts import BundleFacts
from hficma.engine.runtimes import Arrays, runtime
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.engine.runtimes.reference import (
    REFERENCE,
    TOLERANCES,
    Difference,
    array_name,
    arrays_of,
    read_reference,
)
from hficma.errors import HficmaError
from hficma.types import Array

from .calibration_items import Items, arrays
from .whole_bundle import bundle_differences, placed_sentences

AFTER_ENCODING = ("project_", "tabulate_", "cross_")
"""Graphs that only S_local comes from."""
LEAST_QUERIES = 500
"""Fewer say too little about ranks to fail an export."""
BATCH = 16
CANDIDATES = 100
"""Candidates re-ranked for a query's top ten, as a search does."""
TIE = 1e-4
"""Items this close to the tenth score may stand in for each other."""
LEAST_OVERLAP = {"fp32": 1.0, "fp16": 0.99}


class ParityError(HficmaError):
    """A compiled graph differs from the torch model; the command exits with 1."""

    exit_code = 1


@dataclass(frozen=True, kw_only=True)
class RankChange:
    """What a precision does to answers."""

    precision: str
    """Of the graphs."""
    runtime: str
    """What ran them."""
    queries: int
    """Photos that looked for their recipe."""
    overlap: float
    """Share of the reference's top ten that is found, items tied with the tenth counted."""
    recall: dict[int, float]
    """R@1 and R@10 in percent."""
    reference_recall: dict[int, float]
    """The same of the torch model."""
    tests: int = 0
    """Of the queries, test pairs of the dataset."""
    test_recall: dict[int, float] | None = None
    """R@1 and R@10 of those alone: training saw others of them."""
    test_reference_recall: dict[int, float] | None = None
    """The same of the torch model."""

    @property
    def held(self) -> bool:
        """Within the precision's tolerance."""
        if self.overlap < LEAST_OVERLAP.get(self.precision, 0.0):
            return False
        allowed = max(1.0, 200 / self.queries)
        return abs(self.recall[10] - self.reference_recall[10]) <= allowed


def check_bundle(
    path: Path, *, runtimes: Sequence[str] = ("onnxruntime",), device: str = "cpu"
) -> list[Difference]:
    """Verify every file of a bundle and hold its graphs to its reference; needs no torch.

    Args:
        path: the bundle.
        runtimes: what to run it on.
        device: `cpu` or `cuda[:N]`.

    Raises:
        ArtifactError: a file is missing, changed or leads elsewhere.
        ParityError: a graph does not give here what it should.
    """
    manifest = read_manifest(path, kind="bundle")
    for name in manifest.files:
        verified_file(path, manifest, name)
    found = differences(path, read_reference(path / REFERENCE), runtimes=runtimes, device=device)
    require(found, ())
    return found


def differences(
    path: Path,
    reference: Arrays,
    *,
    runtimes: Sequence[str] = ("onnxruntime",),
    device: str = "cpu",
) -> list[Difference]:
    """Every precision of a bundle in every runtime that has it, against a reference."""
    found: list[Difference] = []
    for name in runtimes:
        for precision in bundle_precisions(path, name):
            execution = ExecutionOptions(runtime=name, precision=precision, device=device)
            bundle = Bundle.open(path, execution)
            found += bundle_differences(bundle, reference)
    return found


def bundle_precisions(path: Path, runtime_name: str) -> list[str]:
    """Precisions that a bundle has and a runtime can run."""
    exported = BundleFacts.read(path).precisions
    return [precision for precision in runtime(runtime_name).precisions if precision in exported]


def rank_change(bundle: Bundle, torch_bundle: Bundle, items: Items) -> RankChange:
    """Let every photo look for its recipe, by a bundle and by the torch model.

    Each query re-ranks the same candidates, the torch model's best by S_global and its own
    recipe, so that both answer the same question.

    Args:
        bundle: in the precision and runtime to judge.
        torch_bundle: the same one, run by torch.
        items: pairs.
    """
    wanted, given = encoded(torch_bundle, items), encoded(bundle, items)
    count = len(items.recipes)
    kept = min(CANDIDATES, count)
    by_global = wanted["image_global"] @ wanted["recipe_global"].T
    np.fill_diagonal(by_global, np.inf)
    candidates = np.argpartition(-by_global, kept - 1, axis=1)[:, :kept]
    expected, found, overlaps = [], [], []
    for query, chosen in enumerate(candidates):
        right = pair_scores(torch_bundle, wanted, query, chosen)
        scores = pair_scores(bundle, given, query, chosen)
        tenth = np.sort(right)[-min(10, kept)]
        top = np.argsort(-scores, kind="stable")[:10]
        overlaps.append(float((right[top] >= tenth - TIE * max(1.0, abs(tenth))).mean()))
        own = int(np.flatnonzero(chosen == query)[0])
        expected.append(int((~(right < right[own])).sum()))
        found.append(int((~(scores < scores[own])).sum()))
    test = np.zeros(count, dtype=np.bool_) if items.test is None else items.test
    of_tests = [
        [rank for rank, one in zip(some, test, strict=True) if one] for some in (found, expected)
    ]
    return RankChange(
        precision=bundle.execution.precision,
        runtime=bundle.runtime("image").describe().runtime,
        queries=count,
        overlap=float(np.mean(overlaps)),
        recall=_recall(found),
        reference_recall=_recall(expected),
        tests=int(test.sum()),
        test_recall=_recall(of_tests[0]) if test.any() else None,
        test_reference_recall=_recall(of_tests[1]) if test.any() else None,
    )


def encoded(bundle: Bundle, items: Items) -> dict[str, Array]:
    """Global vectors of items and what pair scores need beside.

    But for the photos' tables, which are large and made a query at a time.
    """
    have = dict(arrays(items))

    def run(graph: str) -> None:
        inputs = arrays_of(graph, bundle.graph(graph).inputs, have)
        rows = len(next(iter(inputs.values())))
        parts = [
            bundle.run(graph, {name: part[start : start + BATCH] for name, part in inputs.items()})
            for start in range(0, rows, BATCH)
        ]
        for port in parts[0]:
            have[array_name(graph, port)] = np.concatenate([part[port] for part in parts])

    run("image")
    run("sentence")
    have["sentences"] = placed_sentences(have["sentence_vectors"], have["sentence_rows"])
    run("recipe")
    if bundle.has_local:
        for graph in ("project_image", "project_recipe", "tabulate_recipe"):
            run(graph)
    return have


def pair_scores(bundle: Bundle, have: Arrays, query: int, candidates: Array) -> Array:
    """S of one photo and some recipes, (K,)."""
    if not bundle.has_local:
        scores: Array = have["recipe_global"][candidates] @ have["image_global"][query]
        return scores
    inputs = {}
    for port in bundle.graph("cross_tables").inputs:
        if port == "image_table":
            value = have["image_value"][query : query + 1]
            inputs[port] = bundle.run("tabulate_image", {"value": value})["table"][None]
        else:
            rows = [query] if port.startswith("image") else candidates
            inputs[port] = have[port][rows][None]
    score: Array = bundle.run("cross_tables", inputs)["score"][0, 0]
    return score


def require(found: Sequence[Difference], changes: Sequence[RankChange]) -> None:
    """Refuse a bundle that is beyond the tolerances.

    Raises:
        ParityError: names the first graph, output, precision and runtime that is.
    """
    for one in found:
        if not one.held:
            raise ParityError(
                f"{one.graph}.{one.output} in {one.precision} on {one.runtime} differs by "
                f"{one.error:.2g} from torch (at most {one.tolerance:.0e}); "
                "export it again or leave that precision out"
            )
    for change in changes:
        if change.queries >= LEAST_QUERIES and not change.held:
            raise ParityError(
                f"{change.precision} on {change.runtime} changes answers: "
                f"{100 * change.overlap:.1f} % of the top ten stay, R@10 goes from "
                f"{change.reference_recall[10]:.1f} to {change.recall[10]:.1f}; leave it out"
            )


def report(found: Sequence[Difference], changes: Sequence[RankChange]) -> dict[str, Any]:
    """What `parity.json` holds."""
    return {
        "tolerances": TOLERANCES,
        "differences": [{**dataclasses.asdict(one), "held": one.held} for one in found],
        "ranks": [{**dataclasses.asdict(one), "held": one.held} for one in changes],
    }


def _recall(found: Sequence[int]) -> dict[int, float]:
    return {k: float(100 * (np.array(found) <= k).mean()) for k in (1, 10)}
