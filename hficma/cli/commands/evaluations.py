"""Commands that measure runs: eval, compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ...artifacts.workspace import Workspace
from ..console import Bars, note, print_json, stdout, table
from ..run_options import Data, Run, run_directory

if TYPE_CHECKING:
    from hficma.training.comparison import EvaluationRanking


def evaluate(
    run: Run = None,
    data: Data = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    setup: Annotated[
        Literal["1k", "10k", "all"], typer.Option(help="Bags of 1,000 or 10,000, or one of all.")
    ] = "1k",
    prefilter: Annotated[
        int | None, typer.Option(min=1, help="Also score only the top K by S_global.")
    ] = None,
    crops: Annotated[
        int | None,
        typer.Option(
            help="Crops of a photo whose vectors are averaged: 1 or 5.", show_default="the model's"
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures; - prints them.")
    ] = None,
) -> None:
    """Recall of a run in both directions: medR, R@1, R@5, R@10 over bags.

    Example: hficma eval --setup 1k
    """
    from hficma.training import evaluate as measure
    from hficma.training.parallel.device import pick_device
    from hficma.training.scoring import block_scores

    scorer = block_scores
    if pick_device("auto").type == "cuda":
        from hficma.engine.gpu.exhaustive import kernel_block_scores

        scorer = kernel_block_scores
    with Bars() as bars:
        evaluation = measure(
            run_directory(run), data, split, setup,
            prefilter=prefilter, crops=crops, progress=bars, scorer=scorer,
        )  # fmt: skip
    if json_file is not None and str(json_file) == "-":
        print_json(evaluation.to_json())
        return
    if json_file is not None:
        json_file.write_text(json.dumps(evaluation.to_json(), indent=1), encoding="utf-8")
    bags = f"{evaluation.bag_count} x {evaluation.bag_size} of {evaluation.items}"
    title = f"{evaluation.dataset} {evaluation.split}: {bags}"
    columns = ("direction", "scored by", "medR", "R@1", "R@5", "R@10")
    stdout.print(table(title, columns, [line for row in evaluation.rows() for line in _lines(row)]))
    for line in evaluation.notes:
        note(line)


def _lines(row: list[str]) -> list[list[str]]:
    """Return a row of figures, their intervals in a line below: 80 columns hold no more."""
    parts = [cell.partition(" [") for cell in row]
    figures, ends = [part[0] for part in parts], [part[2].rstrip("]") for part in parts]
    below = ["", "95 % from, to", *ends[2:]]
    return [figures, below] if any(ends) else [figures]


def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Runs: their names in the workspace, or their paths.")
    ],
    metric: Annotated[str, typer.Option(help="A figure of the log.")] = "recall_sum",
    page: Annotated[Path | None, typer.Option(help="Write overlaid curves here.")] = None,
) -> None:
    """Rank runs by a figure of validation and of test pairs, with what differs in their options.

    Figures of test pairs are those that `hficma eval` left in the runs.

    Example: hficma compare muon adam --metric R@1
    """
    from hficma.training import compare as rank

    from ...metrics import figure_text

    workspace = Workspace.default()
    paths = [workspace.resolve("run", run) for run in runs]
    comparison = rank(paths, metric, page=page)
    if comparison.rows:
        rows = [
            [
                str(r.place), r.run,
                f"{r.score:.4g}" if r.interval is None else figure_text(r.score, r.interval),
                "" if r.queries is None else str(r.queries), f"{r.epoch}, best of {r.validations}",
            ]
            for r in comparison.rows
        ]  # fmt: skip
        columns = ("place", "run", "score [95 %]", "n", "epoch")
        stdout.print(table(f"{metric}, validation pairs", columns, rows))
        note(
            "each the best of its validated epochs, so on the high side; n: validation pairs; runs "
            "within each other's intervals are not told apart; `hficma eval` measures on test pairs"
        )
    if comparison.not_validated:
        note(f"never validated: {', '.join(comparison.not_validated)}")
    for ranking in comparison.tests:
        _print_evaluations(ranking, metric)
    if not comparison.tests:
        note("no run has figures of test pairs: `hficma eval --run RUN` measures them, per run")
    names = list(next(iter(comparison.differences.values()), {}))
    differing = [
        [option, *(str(values.get(name, "")) for name in names)]
        for option, values in comparison.differences.items()
    ]
    if differing:
        stdout.print(table("options that differ", ("option", *names), differing))
    if comparison.curves:
        stdout.print_line(f"curves: {comparison.curves}")


def _print_evaluations(ranking: EvaluationRanking, metric: str) -> None:
    """Print runs by their figures on the same test pairs, and which runs have none."""
    from ...metrics import figure_text

    pairs = ranking.pairs
    title = f"{metric}, test pairs of {pairs.dataset}: {pairs.bag_count} x {pairs.bag_size}"
    rows = [
        [
            str(r.place), r.run,
            figure_text(r.score, r.interval)
            if r.deviation is None else f"{r.score:.1f} ± {r.deviation:.1f}",
            "" if r.epoch is None else str(r.epoch),
        ]
        for r in ranking.rows
    ]  # fmt: skip
    columns = ("place", "run", "score [95 %] or ± over bags", "epoch")
    stdout.print(table(f"{title} of {pairs.items}", columns, rows))
    for run in ranking.missing:
        note(
            f"{run.name}: has no such figures of its present weights; "
            f"`hficma eval --run {run} --setup {pairs.setup}` measures them"
        )
