"""`hficma bench encoders`: what each encoder costs, beside how well it finds.

A better encoder is a slower and larger one. So each encoder of photos and of texts stands here with
the megabytes of its graph and the milliseconds of one item and of sixteen, on one thread and on
two, in every precision that onnxruntime runs; and, out of a report of `hficma bench quality`, with
the R@10 of the method that it is part of.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from hficma.engine.bundle.bundle import Bundle
from hficma.engine.bundle.bundle_facts import BundleFacts
from hficma.engine.runtimes.base import example_inputs
from hficma.engine.runtimes.onnxruntime_backend import OnnxRuntime
from hficma.errors import InputError
from hficma.metrics import DIRECTIONS

from ..common.arguments import JsonFile, Repeats
from ..common.timing import environment, interleaved
from ..pages.parts import publish

THREADS = (1, 2)
BATCHES = (1, 16)
WORDS = 12
"""Of each text: a line of a recipe, or a title."""
ENCODERS = ("image", "sentence", "text")
"""Graphs that are encoders."""


def measure(name: str, path: Path, *, repeats: int) -> list[dict[str, Any]]:
    """Time the encoders of a bundle in every precision, interleaved.

    Args:
        name: of the bundle, for the table.
        path: of the bundle.
        repeats: interleaved repetitions.

    Returns:
        a row an encoder and precision: its megabytes, the median milliseconds of each batch on each
        number of threads, and the largest spread among them (interquartile range over median).
    """
    bundle = Bundle.open(path)
    rows = []
    for graph_name in (one for one in ENCODERS if one in bundle.facts.graphs):
        for precision in bundle.facts.graphs[graph_name].files:
            if precision not in OnnxRuntime.precisions:
                continue
            graph = bundle.graph(graph_name, precision)
            tasks = {}
            for threads in THREADS:
                runtime = OnnxRuntime.load(graph, threads=threads)
                for batch in BATCHES:
                    inputs = example_inputs(graph, {"B": batch, "S": batch, "W": WORDS})
                    tasks[f"{threads} x {batch}"] = partial(runtime.run, inputs)
            timings = interleaved(tasks, repeats=repeats)
            rows.append(
                {
                    "name": name,
                    "encoder": _encoder(bundle.facts, graph_name),
                    "precision": precision,
                    "mb": graph.file.stat().st_size / 1e6,
                    "milliseconds": {task: 1000 * timings.median(task) for task in tasks},
                    "spread": max(timings.spread(task) for task in tasks),
                }
            )
    return rows


def _encoder(facts: BundleFacts, graph: str) -> str:
    """Return what an encoder is called: as it was named, or by its folder's name."""
    if graph == "sentence":
        return f"words ({facts.model.sentence})"
    named = facts.model.image.encoder if graph == "image" else facts.model.text.encoder
    return Path(named or graph).name


def main(
    bundles: Annotated[
        list[str], typer.Argument(metavar="[NAME=]BUNDLE...", help="A row's name, and its bundle.")
    ],
    quality: Annotated[
        Path | None,
        typer.Option(help="A report of `bench quality`: its methods by the same names."),
    ] = None,
    repeats: Repeats = 5,
    json_file: JsonFile = None,
) -> None:
    """Milliseconds and megabytes of image and text encoders, beside R@10.

    Example: hficma bench encoders "best=workspace/bundles/demo"
    """
    recalls = {} if quality is None else _recalls(quality)
    rows = []
    for argument in bundles:
        name, _, path = argument.rpartition("=")
        name = name or Path(path).name
        recall = recalls.get(name)
        rows += [row | {"recall": recall} for row in measure(name, Path(path), repeats=repeats)]
    report = {"environment": environment(threads=max(THREADS)), "words": WORDS, "rows": rows}
    publish("encoders", report, json_file, _spreads(rows))


def _spreads(rows: Sequence[dict[str, Any]]) -> list[float]:
    """Return how much each row's timings moved."""
    return [row["spread"] for row in rows]


def _recalls(file: Path) -> dict[str, float]:
    """Return R@10 of photos that look for their recipes, by method, of a quality report.

    Raises:
        InputError: the file is none.
    """
    try:
        methods = json.loads(file.read_text(encoding="utf-8"))["methods"]
        return {one["name"]: one["S"][DIRECTIONS[0]]["R@10"]["value"] for one in methods}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: is no report of `hficma bench quality` ({error})") from error


if __name__ == "__main__":
    typer.run(main)
