"""Proves a bundle equal to the torch model: every graph, every precision, every runtime.

A bundle carries a reference: a few items, at the edges of what there can be and from the dataset,
with what the torch model in float32 makes of them. Each graph is run on the reference's own inputs,
so that a graph that is wrong is named, and all of them one after the other, so that what adds up is
seen. `check_bundle` does it again on any machine, without torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hficma.artifacts.json_fields import strict_json
from hficma.artifacts.manifest import read_manifest, verified_file
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.bundle.bundle_facts import BundleFacts
from hficma.engine.runtimes import Arrays, runtime_class
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.engine.runtimes.reference import (
    REFERENCE,
    TOLERANCES,
    Difference,
    difference,
    graph_differences,
    read_reference,
)
from hficma.errors import ArtifactError, HficmaError

from .bundle_run import ITEM_ARRAYS, run_bundle
from .rank_changes import RankChange

PARITY = "parity.json"
"""The bundle's file of `report`."""
AFTER_ENCODING = ("project_", "tabulate_", "cross_")
"""How the names of those graphs begin that only S_local comes from."""
LEAST_QUERIES = 500
"""Fewer say too little about ranks to fail an export."""


class ParityError(HficmaError):
    """A compiled graph differs from the torch model; the command exits with 1."""

    exit_code = 1


def check_bundle(
    path: Path, *, runtimes: Sequence[str] = ("onnxruntime",), device: str = "cpu"
) -> list[Difference]:
    """Verify every file of a bundle and hold its graphs to its reference; needs no torch.

    Args:
        path: the bundle.
        runtimes: names of those to run it on.
        device: `cpu` or `cuda[:N]`.

    Returns:
        how far each graph is; nothing for a slim bundle, whose reference was left out.

    Raises:
        ArtifactError: a file is missing, changed or leads elsewhere.
        ParityError: a graph does not give here what it should.
    """
    manifest = read_manifest(path, kind="bundle")
    for name in manifest.files:
        verified_file(path, manifest, name)
    if BundleFacts.from_json(manifest.facts, path).slim:
        return []
    reference = read_reference(path / REFERENCE)
    differences = all_differences(path, reference, runtimes=runtimes, device=device)
    require(differences, ())
    return differences


def all_differences(
    path: Path,
    reference: Arrays,
    *,
    runtimes: Sequence[str] = ("onnxruntime",),
    device: str = "cpu",
) -> list[Difference]:
    """Compare a bundle with a reference, in every runtime and every precision that it has there.

    Args:
        path: the bundle.
        reference: arrays as `array_name` names them.
        runtimes: names of those to run it on.
        device: `cpu` or `cuda[:N]`.
    """
    return [
        one
        for name in runtimes
        for precision in bundle_precisions(path, name)
        for one in bundle_differences(
            Bundle.open(path, ExecutionOptions(runtime=name, precision=precision, device=device)),
            reference,
        )
    ]


def bundle_differences(bundle: Bundle, reference: Arrays) -> list[Difference]:
    """Compare a bundle, as it was opened, with a reference: each graph, and the way through all.

    Args:
        bundle: opened for one runtime and precision.
        reference: arrays as `array_name` names them.
    """
    differences: list[Difference] = []
    for name in bundle.facts.graphs:
        differences += graph_differences(bundle.graph(name), bundle.runtime(name), reference)
    # Each graph ran on the reference's inputs above. What they add up to, each fed by the one
    # before, is what a search computes.
    runtime_name = differences[0].runtime
    outputs = run_bundle(
        bundle, {name: reference[name] for name in ITEM_ARRAYS if name in reference}
    )
    for score in ("global", "local"):
        if score in reference:
            differences.append(
                difference(
                    outputs[score],
                    reference[score],
                    "scores",
                    score,
                    bundle.execution.precision,
                    runtime_name,
                )
            )
    return differences


def bundle_precisions(path: Path, runtime_name: str) -> list[str]:
    """Return the precisions that a bundle has and a runtime can run."""
    exported = BundleFacts.read(path).precisions
    return [
        precision for precision in runtime_class(runtime_name).precisions if precision in exported
    ]


def require(differences: Sequence[Difference], changes: Sequence[RankChange]) -> None:
    """Refuse a bundle that is beyond the tolerances.

    Raises:
        ParityError: naming the first graph, output, precision and runtime that is.
    """
    for one in differences:
        if not one.within_tolerance:
            raise ParityError(
                f"{one.graph}.{one.output} in {one.precision} on {one.runtime} differs by "
                f"{one.error:.2g} from torch (at most {one.tolerance:.0e}); "
                "export it again or leave that precision out"
            )
    # With few queries one lost answer is several percent, which says nothing of the graph.
    for change in changes:
        if change.queries >= LEAST_QUERIES and not change.within_tolerance:
            raise ParityError(
                f"{change.precision} on {change.runtime} changes answers: "
                f"{100 * change.overlap:.1f} % of the top ten stay, R@10 goes from "
                f"{change.reference_recall[10]:.1f} to {change.recall[10]:.1f}; leave it out"
            )


def report(differences: Sequence[Difference], changes: Sequence[RankChange]) -> dict[str, Any]:
    """Return what `parity.json` holds."""
    return {
        "tolerances": TOLERANCES,
        "differences": [
            {**dataclasses.asdict(one), "held": one.within_tolerance} for one in differences
        ],
        "ranks": [{**dataclasses.asdict(one), "held": one.within_tolerance} for one in changes],
    }


def read_report(path: Path) -> tuple[list[Difference], list[RankChange]]:
    """Read what `report` returned out of a bundle's `parity.json`.

    Raises:
        ArtifactError: no such file, or one that no export wrote.
    """
    try:
        record = strict_json(path.read_bytes())
        differences = [Difference(**_fields(row)) for row in record["differences"]]
        changes = [RankChange(**_fields(row)) for row in record["ranks"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: is no parity report ({error})") from error
    return differences, changes


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row's fields: without its verdict, K of recalls as numbers, which JSON has not."""
    return {
        name: {int(k): share for k, share in value.items()} if isinstance(value, dict) else value
        for name, value in row.items()
        if name != "held"
    }
