"""`hficma bench engine`: what re-ranking, batches and larger indexes cost.

Tables of speed at d = 1024 use random weights and synthetic indexes: only time counts there.
Batches are measured with a trained bundle of the workspace too, or one trained for the purpose.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hficma.artifacts.workspace import Workspace
from hficma.data.dataset import open_dataset
from hficma.data.sample import SampleDataset
from hficma.engine.index.item_encoding import EncodingPrecision, Level
from hficma.engine.runtimes.options import ExecutionOptions, processors
from hficma.errors import InputError
from hficma.progress import Progress

from ..common.arguments import JsonFile, Repeats, Threads
from ..common.report import print_markdown, write_json
from ..common.synthetic_index import random_bundle, synthetic_index
from ..common.timing import environment, torch_threads
from ..common.workload import SMALLEST_SAMPLE, IndexKind, bundle_of, index_of, query_positions
from ..pages import speed_tables
from .batches import batch_row
from .growth import growth_panels, growth_table
from .reranking import CANDIDATES, Cells, rerank_table

WIDE_INDEXES: tuple[tuple[Level, EncodingPrecision, int], ...] = (
    ("tables", "fp32", 1_000), ("tokens", "fp16", 10_000),
)  # fmt: skip
"""Of random weights, beside the trained one's."""
SIZES = (1_000, 10_000, 100_000, 1_000_000)
SEED = 1
"""Of the sample that is searched; training takes 0."""
PARTS = ("rerank", "batch", "growth")


def main(
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"Of {', '.join(PARTS)}; may be repeated.", show_default="all"),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Trained, for batches.", show_default="newest")
    ] = None,
    data: Annotated[str, typer.Option(help="Recipes with photos.")] = f"sample:10000:{SEED}",
    photos: Annotated[int, typer.Option(help="Photos of the batches.")] = 192,
    largest: Annotated[int, typer.Option(help="Recipes of the largest index.")] = 100_000,
    wide: Annotated[int, typer.Option(help="d of random weights.")] = 1024,
    repeats: Repeats = 5,
    threads: Threads = 0,
    plot: Annotated[Path | None, typer.Option(help="Plot the growth: .svg or .png.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Re-ranking, batches and growth, each in a table; parts of several runs add to one file.

    Example: hficma bench engine --plot growth.svg --json engine.json
    """
    parts = tuple(only or PARTS)
    if unknown := set(parts) - set(PARTS):
        raise InputError(f"--only {min(unknown)}: there is none; take {', '.join(PARTS)}")
    workspace = Workspace.default()
    threads = threads or processors()
    folder = workspace.cache / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    photo = folder / "engine-query.png"
    SampleDataset(SMALLEST_SAMPLE, seed=SEED).photo(0).save(photo)
    record: dict[str, Any] = {"tables": {}}
    if json_file is not None and json_file.is_file():
        # Parts that an earlier run measured stay.
        record = json.loads(json_file.read_text(encoding="utf-8"))
    record["environment"] = environment(threads=threads)

    def show(key: str, title: str, rows: list[Cells]) -> None:
        """Print a table as the pages have it, and write it at once with all its figures."""
        record["tables"][key] = {"title": title, "rows": rows}
        print_markdown("\n".join(speed_tables.engine(record, (key,))))
        write_json(json_file, record)

    with torch_threads(threads):
        if "rerank" in parts:
            random = random_bundle(workspace, wide)
            title = f"Re-ranking 200 candidates, d = {wide}, random weights, {threads} threads"
            rows = rerank_table(random, folder, photo, threads=threads, repeats=repeats)
            show("rerank", title, rows)
        if "batch" in parts:
            dataset = open_dataset(data)
            trained = bundle or bundle_of(None, workspace, Progress())[0]
            where = (workspace, Progress(), ExecutionOptions(threads=threads))
            kind = IndexKind("Flat", "fp16")
            indexes = [index_of(trained, dataset, kind, "recipes", *where)]
            random = random_bundle(workspace, wide)
            for level, precision, size in WIDE_INDEXES:
                path = folder / f"drawn-{size}-{level}-{random.name}"
                indexes.append(
                    synthetic_index(
                        random, path, size, level=level, precision=precision, prefilter="Flat"
                    )
                )
            drawn = [dataset.photo(position) for position in query_positions(dataset, photos)]
            title = f"Photos one at a time and in batches, {CANDIDATES} candidates, ms"
            show("batch", title, [batch_row(path, drawn, threads=threads) for path in indexes])
    if "growth" in parts:
        narrow = random_bundle(workspace, 256)
        sizes = [size for size in SIZES if size <= largest]
        rows = growth_table(narrow, folder, photo, sizes, threads=threads, queries=4 * repeats)
        title = "As the index grows: d = 256, drawn recipes, tokens kept in fp16, SQfp16"
        show("growth", title, rows)
        if plot is not None:
            from ..common.plots import write_growth_plot

            write_growth_plot(plot, sizes, growth_panels(rows))


if __name__ == "__main__":
    typer.run(main)
