"""`python -m hficma.benchmarks.engine`: what searching costs, and what its certificates are worth.

Tables of speed at d = 1024 use random weights and drawn recipes: only time counts there. Answers
are measured with the newest trained bundle of the workspace, or one trained for the purpose.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from hficma.benchmarks.drawn import random_bundle
from hficma.benchmarks.engine_measures import (
    answer_table,
    batch_table,
    growth_table,
    rerank_table,
)
from hficma.benchmarks.measure import environment
from hficma.benchmarks.subject import bundle_of
from hficma.data.sample import SampleDataset
from hficma.engine import build_index
from hficma.engine.writing import processors
from hficma.progress import Progress
from hficma.workspace import Workspace

SIZES = (1_000, 10_000, 100_000, 1_000_000)
SEED = 1
"""Of the sample that is searched; training takes 0."""


def main(
    bundle: Annotated[Path | None, typer.Option(help="Trained; default: the newest.")] = None,
    home: Annotated[Path | None, typer.Option(help="Workspace.")] = None,
    items: Annotated[int, typer.Option(help="Sample recipes to answer from.")] = 10_000,
    queries: Annotated[int, typer.Option(help="Photos to ask.")] = 50,
    largest: Annotated[int, typer.Option(help="Recipes of the largest drawn index.")] = 100_000,
    wide: Annotated[int, typer.Option(help="D where only speed counts.")] = 1024,
    wide_items: Annotated[
        int, typer.Option(help="Drawn recipes at that width; 0 leaves it out, 100000 takes 10 GB.")
    ] = 0,
    repeats: Annotated[int, typer.Option(help="Interleaved repetitions.")] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes all.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures.")] = None,
) -> None:
    """Re-ranking, certificates, batches and growth, each in a table.

    Example: python -m hficma.benchmarks.engine --largest 1000000 --json engine.json
    """
    console = Console()
    workspace = Workspace(home) if home else Workspace.default()
    threads = threads or processors()
    cache = workspace.cache / "bench"
    report: dict[str, Any] = {"environment": environment() | {"threads": threads}, "tables": {}}

    def show(key: str, title: str, rows: list[dict[str, str | float]]) -> None:
        report["tables"][key] = {"title": title, "rows": rows}
        console.print(_table(title, rows))

    random = random_bundle(workspace, width=wide, heads=8, backbone="tiny", global_dim=wide)
    show(
        "rerank",
        f"Re-ranking 200 candidates, d = {wide}, random weights, {threads} threads",
        rerank_table(random, threads=threads, repeats=repeats),
    )
    trained, note = bundle_of(bundle, workspace, Progress())
    dataset = SampleDataset(items, seed=SEED)
    index = cache / f"engine-{items}-{trained.name}"
    if not index.exists():
        build_index(trained, dataset, index, threads=threads)
    asked = range(0, items, max(1, items // queries))[:queries]
    console.print(note or f"trained bundle: {trained}")
    show(
        "answers",
        "Answers: 200 candidates, and --exact",
        answer_table(index, dataset, asked, threads=threads),
    )
    show(
        "batch",
        "Photos one at a time and in batches",
        batch_table(index, dataset, asked, threads=threads, repeats=repeats),
    )
    photo = cache / "engine-query.png"
    dataset.photo(0).save(photo)
    narrow = random_bundle(workspace, width=256, heads=8, backbone="tiny", global_dim=256)
    show(
        "growth",
        "As the index grows: d = 256, drawn recipes, tokens kept in fp16, SQfp16",
        growth_table(
            narrow, cache, photo, [size for size in SIZES if size <= largest],
            keep="tokens", threads=threads, queries=repeats,
        ),
    )  # fmt: skip
    if wide_items:
        show(
            "wide",
            f"Search by photo, d = {wide}, drawn recipes, projections kept in fp16, SQfp16",
            growth_table(
                random, cache, photo, [wide_items],
                keep="projections", threads=threads, queries=repeats,
            ),
        )  # fmt: skip
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=1), encoding="utf-8")


def _table(title: str, rows: list[dict[str, str | float]]) -> Table:
    """Figures below each other, cases beside each other."""
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    for row in rows:
        table.add_column(str(row["what"]), justify="right")
    for name in list(rows[0])[1:]:
        table.add_row(name.replace("_", " "), *(_text(row[name]) for row in rows))
    return table


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    typer.run(main)
