"""`hficma bench gpu`: all that a search does on one GPU, beside what the GPU can do.

It needs no data and no network, and ends within `--seconds`, or soon after: each step has a share
of what is left. What the machine lacks is a row that says so. The file of results is written after
every step, so that what was measured stays, whatever comes after.
"""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from hficma.errors import InputError
from hficma.terminal import TextConsole

from ..common.report import Report, Table, print_markdown
from ..common.timing import environment
from .computing import COMPILE_SECONDS, Ceilings, PairForms, encoding_table
from .measuring import Cases, Cells, Clock, DeviceTimer
from .searching import (
    figure_of,
    indexing_table,
    precision_table,
    prefilter_table,
    search_tables,
    streamed_table,
)
from .subject import FULL, TINY, Subject

WEIGHTS = {
    "ceilings": 3.0, "encode": 10.0, "pairs": 28.0, "exhaustive": 6.0, "search": 45.0,
    "precisions": 12.0, "prefilters": 16.0, "indexing": 16.0, "streamed": 16.0,
    "pairs-compiled": 10.0, "encode-compiled": 10.0,
}  # fmt: skip
"""Shares of the time, in the order in which the steps run: the surest first, and the compiler of
torch, which nothing interrupts, last."""
RECIPES_A_SECOND = 450
"""Of the time, recipes of the searched index: making it takes a third of the run."""


def main(
    device: Annotated[str, typer.Option(help="cuda[:N], or cpu to try it.")] = "cuda",
    seconds: Annotated[float, typer.Option(min=1.0, help="The run takes about so long.")] = 220.0,
    out: Annotated[Path, typer.Option("--json", help="Write the figures.")] = Path(
        "bench-gpu.json"
    ),
    only: Annotated[
        list[str] | None, typer.Option(help="A step; may be repeated.", show_default="all")
    ] = None,
) -> None:
    """Ceilings, encoding, pair scores, searches, prefilters and indexing on one GPU.

    Example: hficma bench gpu --seconds 220 --json bench-gpu.json
    """
    steps = dict.fromkeys(WEIGHTS) if only is None else dict.fromkeys(only)
    if unknown := set(steps) - set(WEIGHTS):
        raise InputError(f"--only {min(unknown)}: there is none; take {', '.join(WEIGHTS)}")
    place = torch.device(device)
    if place.type == "cuda":
        from hficma.engine.gpu.gpu_index import cuda_device

        place = cuda_device(device)
    elif place.type != "cpu":
        raise InputError(f"--device {device}: takes cuda[:N], or cpu to try it at a tiny size")
    with tempfile.TemporaryDirectory(prefix="hficma-bench-gpu-") as folder:
        report = measure(place, seconds, tuple(steps), Path(folder), out)
    print_markdown(report.markdown())
    TextConsole().print(f"results: {out}")


def measure(
    device: torch.device, seconds: float, steps: tuple[str, ...], folder: Path, out: Path
) -> Report:
    """Measure the steps, and write what there is after each.

    Args:
        device: where; a CPU takes tiny sizes.
        seconds: of the run, about.
        steps: of `WEIGHTS`, in any order.
        folder: for bundles and indexes.
        out: the file of results.
    """
    began = time.perf_counter()
    on_gpu = device.type == "cuda"
    sizes = FULL if on_gpu else TINY
    recipes = min(sizes.recipes, max(sizes.recipes // 20, int(RECIPES_A_SECOND * seconds)))
    subject = Subject(sizes, device, folder, recipes)
    clock = Clock(seconds, {step: WEIGHTS[step] for step in WEIGHTS if step in steps})
    timer = DeviceTimer(device)
    ceilings = Ceilings(subject, clock, timer)
    forms: list[PairForms] = []

    def pair_forms() -> PairForms:
        if not forms:
            forms.append(PairForms(subject, clock, timer, ceilings))
        return forms[0]

    run: dict[str, Callable[[], Table]] = {
        "ceilings": ceilings.table,
        "encode": lambda: encoding_table(subject, clock, timer),
        "pairs": lambda: pair_forms().table(),
        "exhaustive": lambda: pair_forms().exhaustive(),
        "search": lambda: search_tables(subject, clock),
        "precisions": lambda: precision_table(subject, clock),
        "prefilters": lambda: prefilter_table(subject, clock),
        "indexing": lambda: indexing_table(subject, clock),
        "streamed": lambda: streamed_table(subject, clock),
        "pairs-compiled": lambda: pair_forms().table(compiled=True),
        "encode-compiled": lambda: encoding_table(subject, clock, timer, compiled=True),
    }
    tables: list[Table] = []
    console = TextConsole(stderr=True)
    for step in (one for one in WEIGHTS if one in steps):
        clock.begin(step)
        cases = Cases(clock, step, step, "step", (), "A step that could not be measured.")
        compiler = step.endswith("-compiled")
        if compiler and (not on_gpu or clock.left_in_all() < COMPILE_SECONDS):
            why = "the time was up" if on_gpu else "torch's compiler is tried on a GPU alone"
            cases.skip("torch.compile", why)
            tables.append(cases.table())
        else:
            results: list[Table] = []
            cases.measure(step, partial(_keep, run[step], results))
            tables += results or [cases.table()]
        console.print(f"{step}: {time.perf_counter() - began:.0f} s", highlight=False)
        report = _report(subject, seconds, tables, time.perf_counter() - began)
        report.write(out)
    return report


def _keep(step: Callable[[], Table], results: list[Table]) -> Cells:
    """Add a step's table to the results; as a case it has no figures of its own."""
    results.append(step())
    return {}


def _report(subject: Subject, seconds: float, tables: list[Table], took: float) -> Report:
    """Return the report of what was measured so far."""
    device = subject.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    by_key = {table.key: table for table in tables}
    headline = []
    sizes = subject.sizes
    first, last = sizes.candidates[0], sizes.candidates[-1]
    for key, row, column, digits, what in (
        ("pairs", f"1 x {sizes.blocks[0][1]}, 20 ingredients: fused, fp16, tables, CUDA", "ms", 2,
         f"ms: scores of {sizes.blocks[0][1]} candidates of one photo"),
        ("search", f"one photo, {first} candidates", "p50", 1,
         f"ms from JPEG bytes, {first} candidates, the middle of many photos"),
        ("search", f"one photo, {last} candidates", "p50", 1,
         f"ms with {last} candidates"),
        ("search", f"batches of 128, {first}", "rate", 0, "photos a second in batches of 128"),
        ("exhaustive", "fused", "seconds", 1, "s: 10,000 photos with 10,000 recipes"),
    ):  # fmt: skip
        table = by_key.get(key)
        figure = None if table is None else figure_of(table, row, column)
        if figure is not None:
            headline.append((f"{figure.value:,.{digits}f}", what))
    packages: dict[str, Any] = {}
    for package in ("onnxruntime-gpu", "faiss-gpu", "faiss-gpu-cuvs", "tensorrt", "triton"):
        try:
            packages[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            packages[package] = None
    notes = [
        "random weights, photos of noise and recipes that nobody wrote: speed does not depend on "
        "them, agreement of rankings does",
    ]
    if subject.encoder != sizes.encoder:
        notes.append(f"photos are encoded by `tiny`: {sizes.encoder} could not be made here")
    return Report(
        title=f"One GPU: {name or 'the processors, to try it'}",
        environment=environment(
            gpu=name, cuda=torch.version.cuda, gpu_packages=packages, machine=platform.machine()
        ),
        options={"device": str(device), "seconds": seconds, "recipes": subject.recipes,
                 "width": sizes.width, "heads": sizes.heads, "encoder": subject.encoder},
        headline=tuple(headline),
        notes=tuple(notes),
        tables=tuple(tables),
        seconds=took,
    )  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
