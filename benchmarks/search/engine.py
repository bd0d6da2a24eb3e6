"""`hficma bench engine`: what searching costs, and what its certificates are worth.

Tables of speed at d = 1024 use random weights and drawn recipes: only time counts there. Answers
are measured with trained bundles of the workspace, or one trained for the purpose.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from hficma.artifacts.manifest import write_atomically
from hficma.artifacts.workspace import Workspace
from hficma.data.dataset import Dataset, open_dataset, positions
from hficma.data.sample import SampleDataset
from hficma.engine import Bundle, build_index
from hficma.engine.runtimes.options import processors
from hficma.errors import InputError
from hficma.progress import Progress
from hficma.terminal import TextConsole

from ..common.synthetic_index import random_bundle
from ..common.timing import environment, torch_threads
from ..common.workload import SMALLEST_SAMPLE, bundle_of, content_of
from .engine_measures import answer_table, batch_table, rerank_table
from .growth import growth_table, steepest, write_growth_plot

SIZES = (1_000, 10_000, 100_000, 1_000_000)
SEED = 1
"""Of the sample that is searched; training takes 0."""
PARTS = ("rerank", "answers", "batch", "growth", "wide")

Rows = list[dict[str, str | float]]


class _Report:
    """Tables as they are made: printed, and kept in the file at once."""

    def __init__(self, threads: int, file: Path | None) -> None:
        self._console = TextConsole()
        self._file = file
        self._record: dict[str, Any] = {"tables": {}}
        if file is not None and file.is_file():
            # Parts that an earlier run measured stay.
            self._record = json.loads(file.read_text(encoding="utf-8"))
        self._record["environment"] = environment() | {"threads": threads}

    def note(self, text: str) -> None:
        """A line between the tables."""
        self._console.print(text, highlight=False)

    def show(self, key: str, title: str, rows: Rows) -> None:
        """Print a table and keep it."""
        self._record["tables"][key] = {"title": title, "rows": rows}
        self._console.print(_table(title, rows))
        if self._file is not None:
            write_atomically(self._file, json.dumps(self._record, indent=1).encode())


def main(
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"Of {', '.join(PARTS)}; may be repeated.", show_default="all"),
    ] = None,
    bundle: Annotated[
        list[Path] | None,
        typer.Option(help="Trained; may be repeated.", show_default="newest of each similarity"),
    ] = None,
    home: Annotated[Path | None, typer.Option(help="Workspace.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Recipes with photos.", show_default="sample:ITEMS:1")
    ] = None,
    items: Annotated[int, typer.Option(help="Sample recipes to answer from.")] = 10_000,
    queries: Annotated[int, typer.Option(help="Photos to ask for answers.")] = 50,
    photos: Annotated[int, typer.Option(help="Photos of the batches.")] = 1_000,
    largest: Annotated[int, typer.Option(help="Recipes of the largest drawn index.")] = 1_000_000,
    wide: Annotated[int, typer.Option(help="D where only speed counts.")] = 1024,
    wide_items: Annotated[
        int, typer.Option(help="Drawn recipes at that width; 100000 take 10 GB of disk.")
    ] = 100_000,
    backbone: Annotated[
        str, typer.Option(help="Of the image branch at that width, in int8.")
    ] = "resnet50",
    repeats: Annotated[int, typer.Option(help="Interleaved repetitions.")] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes all.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Plot the growth: .svg or .png.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures; parts add to the file.")
    ] = None,
) -> None:
    """Re-ranking, certificates, batches and growth, each in a table.

    Example: python -m hficma.benchmarks.search.engine --plot growth.svg --json engine.json
    """
    parts = tuple(only or PARTS)
    if unknown := set(parts) - set(PARTS):
        raise InputError(f"--only {min(unknown)}: there is none; take {', '.join(PARTS)}")
    workspace = Workspace(home) if home else Workspace.default()
    threads = threads or processors()
    cache = workspace.cache / "bench"
    report = _Report(threads, json_file)
    if "rerank" in parts:
        random = random_bundle(workspace, width=wide, heads=8, backbone="tiny", global_dim=wide)
        with torch_threads(threads):
            rows = rerank_table(random, threads=threads, repeats=repeats)
        title = f"Re-ranking 200 candidates, d = {wide}, random weights, {threads} threads"
        report.show("rerank", title, rows)
    if "answers" in parts or "batch" in parts:
        dataset = open_dataset(data) if data else SampleDataset(items, seed=SEED)
        trained = bundle or _bundles(workspace, report)
        indexes = [_index(cache, one, dataset, threads) for one in trained]
        if "answers" in parts:
            asked = _photos(dataset, queries)
            report.show(
                "answers",
                "Answers: 200 candidates, and --exact",
                [
                    row
                    for index in indexes
                    for row in answer_table(index, dataset, asked, threads=threads)
                ],
            )
        if "batch" in parts:
            with torch_threads(threads):
                rows = batch_table(indexes[0], dataset, _photos(dataset, photos), threads=threads)
            report.show("batch", "Photos one at a time and in batches", rows)
    photo = cache / "engine-query.png"
    if "growth" in parts or "wide" in parts:
        cache.mkdir(parents=True, exist_ok=True)
        SampleDataset(SMALLEST_SAMPLE, seed=SEED).photo(0).save(photo)
    if "growth" in parts:
        narrow = random_bundle(workspace, width=256, heads=8, backbone="tiny", global_dim=256)
        rows = growth_table(
            narrow, cache, photo, [size for size in SIZES if size <= largest],
            keep="tokens", threads=threads, queries=4 * repeats,
        )  # fmt: skip
        title = "As the index grows: d = 256, drawn recipes, tokens kept in fp16, SQfp16"
        report.show("growth", title, rows)
        report.note(steepest(rows))
        if plot is not None:
            write_growth_plot(rows, plot)
    if "wide" in parts and wide_items:
        random = random_bundle(
            workspace, width=wide, heads=8, backbone=backbone, global_dim=wide,
            precisions=("fp32", "int8"),
        )  # fmt: skip
        report.show(
            "wide",
            f"Search by photo, d = {wide}, {backbone} in int8, drawn recipes, projections kept in "
            "fp16, SQfp16",
            growth_table(
                random, cache, photo, [wide_items],
                keep="projections", threads=threads, queries=4 * repeats, precision="int8",
            ),
        )  # fmt: skip


def _bundles(workspace: Workspace, report: _Report) -> list[Path]:
    """The newest trained bundle of each global similarity; one is trained where there is none."""
    found: dict[str, Path] = {}
    for path in workspace.all("bundle"):
        found.setdefault(Bundle.open(path).facts.model.global_similarity, path)
    if not found:
        path, note = bundle_of(None, workspace, Progress())
        report.note(note)
        return [path]
    return list(found.values())


def _index(cache: Path, bundle: Path, dataset: Dataset, threads: int) -> Path:
    """An index of the dataset's recipes, kept for the next run."""
    model = Bundle.open(bundle).model_id[:12]
    index = cache / f"engine-{content_of(dataset, 'recipes', cache)[:16]}-{model}"
    if not index.exists():
        build_index(bundle, dataset, index, threads=threads)
    return index


def _photos(dataset: Dataset, count: int) -> list[int]:
    """Positions of test items with photos, spread over the dataset; of any, where none is a test.

    Fewer items than `count` are asked several times.
    """
    if isinstance(dataset, SampleDataset):
        rows = list(range(len(dataset)))
    else:
        rows = positions(dataset, ("test",), with_photo=True).tolist()
        rows = rows or positions(dataset, with_photo=True).tolist()
    if not rows:
        raise InputError(f"{dataset.name}: has no photos to ask with; name another --data")
    return [rows[place * len(rows) // count % len(rows)] for place in range(count)]


def _table(title: str, rows: Rows) -> Table:
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
