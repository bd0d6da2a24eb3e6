"""Ranks several runs by a validation figure, with what differs in their options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hficma.errors import InputError
from hficma.metrics import Interval

from .config.option_files import flatten
from .runs.curves import write_curves
from .runs.log import read_log
from .runs.run import RunDirectory

DEFAULT_METRIC = "recall_sum"
_SMALLER_IS_BETTER = ("medR", "loss")


@dataclass(frozen=True)
class RankedRun:
    """One run in a comparison, and its place."""

    place: int
    """From 1; equal scores share a place."""
    run: str
    """Its name."""
    score: float
    """Its best value of the metric over validations."""
    epoch: int
    """When that was."""
    validations: int
    """Epochs that were validated: the score is the best of so many."""
    queries: int | None
    """Pairs that it is of; None where the run is of an older version."""
    interval: Interval | None
    """95 %, over queries; None for figures that have none."""


@dataclass(frozen=True)
class RunComparison:
    """Runs by place, and what differs between them."""

    metric: str
    """Dotted name of the figure that they are ranked by."""
    rows: tuple[RankedRun, ...]
    """By place."""
    differences: dict[str, dict[str, Any]]
    """By option, where runs differ: value by run."""
    curves: Path | None
    """The page with the curves overlaid."""


def compare(
    runs: Sequence[Path], metric: str = DEFAULT_METRIC, *, page: Path | None = None
) -> RunComparison:
    """Rank runs by the best value that a validation figure reached.

    Args:
        runs: run directories.
        metric: `recall_sum`, `image_to_recipe.R@1`, `recipe_to_image.medR`, ...; a figure of one
            direction may be given alone (`R@1`: photo to recipe).
        page: where to write the overlaid curves; None writes none.

    Raises:
        InputError: there is no run, or one has no such figure; the message lists what it has.
    """
    if not runs:
        raise InputError("compare takes one run or more")
    names = _names(runs)
    bests = {name: _best(run, metric) for name, run in zip(names, runs, strict=True)}
    sign = 1 if metric.rsplit(".", 1)[-1] in _SMALLER_IS_BETTER else -1
    order = sorted(bests, key=lambda name: sign * bests[name][0])
    scores = [bests[name][0] for name in order]
    rows = tuple(RankedRun(scores.index(bests[name][0]) + 1, name, *bests[name]) for name in order)
    return RunComparison(
        metric,
        rows,
        _differences({n: RunDirectory.open(r).options for n, r in zip(names, runs, strict=True)}),
        None if page is None else write_curves(runs, page, names=names),
    )


def _names(runs: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell all runs apart."""
    parts = [run.resolve().parts for run in runs]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError("compare takes each run once")


def _best(run: Path, metric: str) -> tuple[float, int, int, int | None, Interval | None]:
    """Return the best value, its epoch, validations, queries and interval, as in `RankedRun`."""
    RunDirectory.open(run)  # says what is wrong where it is no run
    values: list[tuple[float, int, dict[str, Any]]] = []
    names: set[str] = set()
    for record in read_log(run):
        if record["kind"] != "epoch" or "validation" not in record:
            continue
        details = flatten(record["validation"])
        figures = {
            name: value
            for name, value in (details | _loss(record)).items()
            if isinstance(value, int | float) and not name.endswith(".queries")
        }
        names |= set(figures)
        name = metric if metric in figures else f"image_to_recipe.{metric}"
        if name in figures:
            direction, _, figure = name.rpartition(".")
            details = {
                "queries": details.get(f"{direction or 'image_to_recipe'}.queries"),
                "interval": details.get(f"{direction}.intervals.{figure}"),
            }
            values.append((float(figures[name]), int(record["epoch"]), details))
    if not values:
        listed = ", ".join(sorted(names)) or "none, it was never validated"
        raise InputError(f"{run}: has no figure {metric}; it has {listed}")
    smaller = metric.rsplit(".", 1)[-1] in _SMALLER_IS_BETTER
    value, epoch, details = min(values, key=lambda one: one[0] if smaller else -one[0])
    ends = details["interval"]
    return (
        value, epoch, len(values), None if metric == "loss" else details["queries"],
        (float(ends[0]), float(ends[1])) if ends else None,
    )  # fmt: skip


def _loss(record: dict[str, Any]) -> dict[str, Any]:
    """Return the training loss; an epoch in which no step was taken has none."""
    return {"loss": record["train"]["loss"]} if "loss" in record["train"] else {}


def _differences(options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the options that differ between runs: value by run, by dotted name."""
    flat = {name: flatten(tree) for name, tree in options.items()}
    keys = sorted({key for tree in flat.values() for key in tree})
    table = {key: {name: tree.get(key) for name, tree in flat.items()} for key in keys}
    return {
        key: row for key, row in table.items() if len({repr(value) for value in row.values()}) > 1
    }
