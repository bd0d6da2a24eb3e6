"""`hficma bench training_step`: time and memory of one step, against the published.

Each form runs in a process of its own, because peak memory is a process's figure.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from hficma.model.fusion import CrossFusion
from hficma.model.numerics import unit_rows
from hficma.model.published_attention import published_scores
from hficma.model.similarity import project
from hficma.model.tiling import pair_scores
from hficma.terminal import TextConsole

from ..common.timing import environment, peak_resident_mb

REGIONS = 49
SLOTS = 20


def step(form: str, items: int, width: int, heads: int, tile: int | None) -> dict[str, float]:
    """One forward and backward pass over items x items pairs, after a small one to warm up.

    Returns:
        seconds, peak_mb (of the process) and before_mb (when the step began).
    """
    torch.manual_seed(0)
    fusion = CrossFusion(width, heads)

    def scores(count: int) -> torch.Tensor:
        image = unit_rows(torch.randn(count, REGIONS, width).relu()).requires_grad_()
        recipe = unit_rows(torch.randn(count, SLOTS, width).relu()).requires_grad_()
        lengths = torch.full((count,), SLOTS)
        if form == "published":
            return published_scores(fusion, image, recipe, lengths, count)
        weights = fusion.fold()
        return pair_scores(
            project(image, torch.full((count,), REGIONS), weights.image),
            project(recipe, lengths, weights.recipe),
            weights,
            tile=tile,
        )

    scores(2).sum().backward()
    before = peak_resident_mb()
    start = time.perf_counter()
    scores(items).sum().backward()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_mb": peak_resident_mb(), "before_mb": before}


def main(
    width: Annotated[int, typer.Option(help="d.")] = 1024,
    heads: Annotated[int, typer.Option(help="H.")] = 8,
    large: Annotated[int, typer.Option(help="Photos and recipes of the large batch.")] = 128,
    repeats: Annotated[int, typer.Option(help="Interleaved repetitions.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures.")] = None,
    only: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Seconds and memory of a training step: published graph, ours, ours in tiles, a large batch.

    Example: python -m hficma.benchmarks.kernels.training_step --json training-step.json
    """
    cases: dict[str, tuple[str, int, int | None]] = {
        "published 32 x 32": ("published", 32, None),
        "hficma 32 x 32": ("hficma", 32, None),
        "hficma 32 x 32 in tiles of 64": ("hficma", 32, 64),
        f"hficma {large} x {large} in tiles of 256": ("hficma", large, 256),
    }
    if only is not None:
        form, items, tile = cases[only]
        print(json.dumps(step(form, items, width, heads, tile)))
        return
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name in cases:
            command = [
                sys.executable,
                "-m",
                "hficma.benchmarks.kernels.training_step",
                "--only",
                name,
            ]
            command += ["--width", str(width), "--heads", str(heads), "--large", str(large)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs[name].append(json.loads(done.stdout))
    table = Table(title=f"training step, d = {width}, {SLOTS} ingredients", title_justify="left")
    for column in ("step", "seconds", "x published", "peak MB", "of published"):
        table.add_column(column, justify="left" if column == "step" else "right")
    figures = {}
    for name, measured in runs.items():
        seconds = sorted(run["seconds"] for run in measured)[len(measured) // 2]
        memory = max(run["peak_mb"] - run["before_mb"] for run in measured)
        figures[name] = {"seconds": seconds, "step_mb": memory, "runs": measured}
    base = figures["published 32 x 32"]
    for name, figure in figures.items():
        same = "32 x 32" in name
        table.add_row(
            name,
            f"{figure['seconds']:.1f}",
            f"{base['seconds'] / figure['seconds']:.1f}" if same else "",
            f"{figure['step_mb']:.0f}",
            f"{figure['step_mb'] / base['step_mb']:.2f}" if same else "",
        )
    TextConsole().print(table)
    if json_file is not None:
        report = {"environment": environment(), "width": width, "figures": figures}
        json_file.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
