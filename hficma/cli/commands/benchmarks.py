"""`hficma bench`: the page of figures, or one benchmark by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from ...artifacts.workspace import Workspace
from ...errors import InputError
from ..console import Bars, stdout
from ..engine_options import PANEL, Device, Runtime, Threads
from ..help_text import command_group
from ..lazy_group import LazyGroup
from ..process_settings import quiet_exporter


class _Benchmarks(LazyGroup):
    homes: ClassVar[Mapping[str, tuple[str, str]]] = {
        module.rpartition(".")[2]: (f"hficma.benchmarks.{module.replace('-', '_')}", "main")
        for module in (
            "kernels.pair_scores",
            "kernels.training_step",
            "kernels.branches",
            "kernels.encoders",
            "kernels.gpu_kernels",
            "kernels.screening",
            "training.training",
            "gpu.gpu",
            "search.engine",
            "search.scale",
            "quality.sample_hardness",
            "quality.text_quality",
            "quality.quality",
            "quality.storage",
            "quality.sureness",
            "quality.certificate",
            "quality.cookbook",
            "contact.contact-sheet",
            "search.search-against",
            "quality.page-accuracy",
            "serving.serve",
            "cluster.cluster",
            "pages.readme",
        )
    }


app = command_group(
    "Latency and recall of every stage; or one benchmark by its name.\n\n"
    "Example: hficma bench --setup 1k",
    cls=_Benchmarks,
    invoke_without_command=True,
)


@app.callback()
def bench(
    ctx: typer.Context,
    setup: Annotated[str, typer.Option(help="Items searched: 1k, 10k or a number.")] = "1k",
    bundle: Annotated[Path | None, typer.Option(help="A bundle.", show_default="newest")] = None,
    index: Annotated[Path | None, typer.Option(help="Measure this index.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Pairs of photos and recipes.", show_default="like the training data, unseen"
        ),
    ] = None,
    runtime: Runtime = "auto",
    precision: Annotated[
        str, typer.Option(help="Of the encoders, one or several: fp32,int8.", rich_help_panel=PANEL)
    ] = "fp32",
    kinds: Annotated[
        str, typer.Option(help="Prefilters and precisions of the index.")
    ] = "Flat/fp32,SQ8/int8,HNSW/fp16",
    candidates: Annotated[
        str, typer.Option(help="Numbers of items to re-rank.")
    ] = "10,50,100,200,500",
    concurrency: Annotated[str, typer.Option(help="Numbers of clients at once.")] = "1,4,16",
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Also score every photo with every recipe.")
    ] = False,
    device: Device = "cpu",
    threads: Threads = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="OLD NEW", help="Compare two reports.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Relative change that --compare lets pass.")
    ] = 0.1,
    out: Annotated[Path | None, typer.Option(help="The report to write.")] = None,
) -> None:
    ctx.with_resource(quiet_exporter())
    if ctx.invoked_subcommand is not None:
        return
    from hficma.benchmarks.common.report import print_markdown
    from hficma.benchmarks.search.bench import BenchOptions, Report, compare_reports, run_bench

    if compare is not None:
        comparison = compare_reports(*compare, tolerance)
        print_markdown(comparison.markdown())
        raise typer.Exit(comparison.exit_code)
    options = BenchOptions(
        setup=setup,
        bundle=bundle,
        index=index,
        data=data,
        runtime=runtime,
        precisions=tuple(precision.split(",")),
        kinds=tuple(kinds.split(",")),
        candidates=_numbers("--candidates", candidates),
        concurrency=_numbers("--concurrency", concurrency),
        exhaustive=exhaustive,
        device=device,
        threads=threads,
    )
    with Bars() as bars:
        path = run_bench(options, Workspace.default(), bars, out=out)
    print_markdown(Report.read(path).markdown())
    stdout.print_line(f"report: {path / 'report.html'}")


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} {text}: takes numbers such as 10,50,100") from error
