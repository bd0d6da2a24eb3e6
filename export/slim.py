"""Cuts a bundle down to what a search runs: one precision a graph.

A bundle has several precisions, the torch weights and a reference, so that any machine can choose,
go on training and hold the graphs to the model again. What a small server or a package needs of it
is a small part: here the rest is left out, after everything was proved.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from hficma.artifacts.manifest import new_directory, read_manifest, verified_file
from hficma.engine.bundle.bundle_facts import KIND, BundleFacts
from hficma.engine.runtimes.reference import REFERENCE
from hficma.errors import ArtifactError
from hficma.model.loading import BUNDLE_WEIGHTS

from . import parity
from .card import CARD, write_card

NARROWEST_FIRST = ("int8", "fp16", "fp32")
"""Precisions that a slim bundle encodes in, the smallest first."""


def slim_bundle(bundle: Path, out: Path, *, precision: str | None = None) -> Path:
    """Write the part of a bundle that runs where it is opened in one precision.

    Graphs that lack the precision stay in fp32, and so do those behind the encoders: pairs are
    scored in fp32 whatever encodes, since certificates count on its rounding.

    Args:
        bundle: the directory of a whole bundle; every file that is taken over is verified.
        out: the new bundle's directory; must not exist.
        precision: of the encoders; None takes the smallest that some graph has.

    Returns:
        `out`.

    Raises:
        ArtifactError: no whole bundle there, one without the precision, or `out` exists.
    """
    manifest = read_manifest(bundle, kind=KIND)
    facts = BundleFacts.from_json(manifest.facts, bundle)
    if facts.slim:
        raise ArtifactError(f"{bundle}: is slim already; take the bundle that it was made from")
    if precision is None:
        precision = next(one for one in NARROWEST_FIRST if one in facts.precisions)
    elif precision not in facts.precisions:
        raise ArtifactError(f"{bundle}: has no {precision} graphs; export the run in {precision}")
    left_out = {BUNDLE_WEIGHTS, REFERENCE, CARD}
    graphs = {}
    for name, graph in facts.graphs.items():
        after_encoding = name.startswith(parity.AFTER_ENCODING)
        taken = "fp32" if after_encoding else graph.precision(precision)
        graphs[name] = replace(graph, files={taken: graph.files[taken]})
        left_out |= {file for other, file in graph.files.items() if other != taken}
    slim = replace(facts, graphs=graphs, slim=True)
    with new_directory(out, kind=KIND, made_by="hficma export --slim") as (building, record):
        for name in manifest.files.keys() - left_out:
            target = building / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(verified_file(bundle, manifest, name), target)
        record |= manifest.facts | {"slim": True, "graphs": _only(manifest.facts["graphs"], slim)}
        # It goes to where the data is not: a path of this disk would only mislead there.
        record["dataset"] = None
        if facts.trained_on is not None:
            record["trained_on"] = Path(facts.trained_on).name
        differences, changes = parity.read_report(building / parity.PARITY)
        write_card(
            building,
            slim,
            [one for one in differences if one.precision in slim.precisions],
            [one for one in changes if one.precision in (precision, "fp32")],
        )
    return out


def _only(records: dict[str, dict[str, object]], facts: BundleFacts) -> dict[str, object]:
    """Return a manifest's records of graphs, with the files that the facts name."""
    return {
        name: record | {"precisions": dict(facts.graphs[name].files)}
        for name, record in records.items()
    }
