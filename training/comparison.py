"""Ranks several runs by a figure of validation or of test pairs, with what differs in options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hficma.data.partitions import read_partitions
from hficma.errors import ArtifactError, InputError
from hficma.metrics import DIRECTIONS, RECALLS, Interval

from .config.option_files import flatten, merge
from .config.option_values import to_tree
from .config.options import Options
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
class RankedEvaluation:
    """One run's evaluation among those of the same test pairs, and its place."""

    place: int
    """From 1; equal scores share a place."""
    run: str
    """Its name."""
    score: float
    """The metric by S; the mean over bags where there are several."""
    deviation: float | None
    """Over bags; None for one bag, and for sums of several figures."""
    interval: Interval | None
    """95 %, over the queries of one bag; None for several bags, and for sums."""
    epoch: int | None
    """Of the weights; None in evaluations of older versions, which did not note it."""


@dataclass(frozen=True)
class EvaluatedPairs:
    """What two evaluations must share for their figures to be compared."""

    dataset: str
    """What `open_dataset` takes."""
    setup: str
    """`1k`, `10k` or `all`."""
    items: int
    """Test pairs that could be read."""
    bag_size: int
    """Pairs a bag."""
    bag_count: int
    """Bags."""
    held_out: frozenset[str]
    """Ids of the pairs, where the run itself chose them; empty where the dataset says."""


@dataclass(frozen=True)
class EvaluationRanking:
    """Runs by place, by their evaluations on the same test pairs."""

    pairs: EvaluatedPairs
    """Which they are."""
    rows: tuple[RankedEvaluation, ...]
    """By place."""
    missing: tuple[Path, ...]
    """Directories of the other runs: not evaluated so, or not since they were trained on."""


@dataclass(frozen=True)
class RunComparison:
    """Runs by place, and what differs between them."""

    metric: str
    """Dotted name of the figure that they are ranked by."""
    rows: tuple[RankedRun, ...]
    """By place on validation pairs, of the runs that were validated."""
    not_validated: tuple[str, ...]
    """Names of the others."""
    tests: tuple[EvaluationRanking, ...]
    """One for each kind of evaluation that a run holds."""
    differences: dict[str, dict[str, Any]]
    """By option, where runs differ: value by run."""
    curves: Path | None
    """The page with the curves overlaid."""


def compare(
    runs: Sequence[Path], metric: str = DEFAULT_METRIC, *, page: Path | None = None
) -> RunComparison:
    """Rank runs by the best value that a figure reached in validation, and on test pairs.

    Figures of test pairs are those that `evaluate` left in the runs.

    Args:
        runs: run directories.
        metric: `recall_sum`, `image_to_recipe.R@1`, `recipe_to_image.medR`, ...; a figure of one
            direction may be given alone (`R@1`: photo to recipe).
        page: where to write the overlaid curves; None writes none.

    Raises:
        InputError: there is no run, no run was validated or evaluated, or one that was has no
            such figure; the message lists what it has.
    """
    if not runs:
        raise InputError("compare takes one run or more")
    by_name = dict(zip(_names(runs), runs, strict=True))
    bests = {name: _best(run, metric) for name, run in by_name.items()}
    validated = {name: best for name, best in bests.items() if best is not None}
    tests = _tests({name: RunDirectory.open(run) for name, run in by_name.items()}, metric)
    if not validated and not tests:
        raise InputError(
            f"{', '.join(by_name)}: has no {metric} to compare; it was never validated, so "
            "evaluate it on test pairs first, and take a figure that evaluations have: "
            "recall_sum, R@1, R@5, R@10, medR"
        )
    places = _places({name: best[0] for name, best in validated.items()}, metric)
    return RunComparison(
        metric,
        tuple(RankedRun(place, name, *validated[name]) for name, place in places.items()),
        tuple(name for name in by_name if name not in validated),
        tests,
        _differences({name: RunDirectory.open(run).options for name, run in by_name.items()}),
        None if page is None else write_curves(runs, page, names=list(by_name)),
    )


def _places(scores: dict[str, float], metric: str) -> dict[str, int]:
    """Return places from 1 by name, the best first; equal scores share a place."""
    sign = 1 if _is_smaller_better(metric) else -1
    order = sorted(scores, key=lambda name: sign * scores[name])
    values = [scores[name] for name in order]
    return {name: values.index(scores[name]) + 1 for name in order}


def _is_smaller_better(metric: str) -> bool:
    return metric.rsplit(".", 1)[-1] in _SMALLER_IS_BETTER


def _names(runs: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell all runs apart."""
    parts = [run.resolve().parts for run in runs]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError("compare takes each run once")


def _best(run: Path, metric: str) -> tuple[float, int, int, int | None, Interval | None] | None:
    """Return the best value, its epoch, validations, queries and interval, as in `RankedRun`.

    None where the run was never validated.
    """
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
    if not names:
        return None
    if not values:
        raise InputError(f"{run}: has no figure {metric}; it has {', '.join(sorted(names))}")
    sign = 1 if _is_smaller_better(metric) else -1
    value, epoch, details = min(values, key=lambda one: sign * one[0])
    ends = details["interval"]
    return (
        value, epoch, len(values), None if metric == "loss" else details["queries"],
        (float(ends[0]), float(ends[1])) if ends else None,
    )  # fmt: skip


def _tests(runs: dict[str, RunDirectory], metric: str) -> tuple[EvaluationRanking, ...]:
    """Rank runs by their evaluations on test pairs, those of the same pairs with each other."""
    groups: dict[EvaluatedPairs, dict[str, RankedEvaluation]] = {}
    for name, run in runs.items():
        partitions = read_partitions(run.path)
        # Two runs that keep a tenth out of one dataset may keep different tenths.
        held_out = frozenset(item for item, partition in partitions.items() if partition == "test")
        for file, record in run.evaluations().items():
            try:
                if record["split"] != "test":
                    continue
                pairs = EvaluatedPairs(
                    dataset=record["dataset"],
                    setup=record["setup"],
                    items=record["items"],
                    bag_size=record["bag_size"],
                    bag_count=record["bag_count"],
                    held_out=held_out,
                )
                evaluation = _evaluation(record, metric, name)
            except (KeyError, TypeError, ValueError) as error:
                raise ArtifactError(
                    f"{run.path / file}: is no evaluation ({type(error).__name__}: {error}); "
                    "evaluate the run again, or remove it"
                ) from error
            epoch = (run.facts.get("best") or {}).get("epoch")
            # Of weights that a resumed run has left behind, it says nothing of the run as it is.
            stale = evaluation is not None and evaluation.epoch not in (None, epoch)
            if evaluation is not None and not stale:
                groups.setdefault(pairs, {})[name] = evaluation
    rankings = []
    for pairs, evaluations in groups.items():
        places = _places({name: one.score for name, one in evaluations.items()}, metric)
        rows = tuple(replace(evaluations[name], place=place) for name, place in places.items())
        rankings.append(
            EvaluationRanking(
                pairs,
                rows,
                tuple(run.path for name, run in runs.items() if name not in evaluations),
            )
        )
    return tuple(rankings)


def _evaluation(record: dict[str, Any], metric: str, run: str) -> RankedEvaluation | None:
    """Read one figure of an evaluation, without its place; None where it has no such figure."""
    epoch = record.get("epoch")
    if metric == DEFAULT_METRIC:
        total = sum(
            float(record["total"][direction][f"R@{k}"][0])
            for direction in DIRECTIONS
            for k in RECALLS
        )
        return RankedEvaluation(0, run, total, None, None, epoch)
    direction, _, figure = metric.rpartition(".")
    direction = direction or DIRECTIONS[0]
    if figure not in record["total"].get(direction, {}):
        return None
    mean, deviation = record["total"][direction][figure]
    ends = None if record["intervals"] is None else record["intervals"]["total"][direction][figure]
    return RankedEvaluation(
        0, run, float(mean), None if deviation is None else float(deviation),
        (float(ends[0]), float(ends[1])) if ends else None, epoch,
    )  # fmt: skip


def _loss(record: dict[str, Any]) -> dict[str, Any]:
    """Return the training loss; an epoch in which no step was taken has none."""
    return {"loss": record["train"]["loss"]} if "loss" in record["train"] else {}


def _differences(options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the options that differ between runs: value by run, by dotted name."""
    # What an older release did not have yet, its runs have as it is by default.
    defaults = to_tree(Options())
    flat = {name: flatten(merge(defaults, tree)) for name, tree in options.items()}
    keys = sorted({key for tree in flat.values() for key in tree})
    table = {key: {name: tree.get(key) for name, tree in flat.items()} for key in keys}
    return {
        key: row for key, row in table.items() if len({repr(value) for value in row.values()}) > 1
    }
