"""`hficma bench gpu`: all that a search does on one GPU, beside what the GPU can do.

It needs no data and no network, and ends within `--seconds`, or soon after: each step has a share
of what is left. What the machine lacks is a row that says so. The file of results is written after
every row, so that what was measured stays, whatever comes after.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from hficma.errors import InputError
from hficma.terminal import TextConsole

from ..common.report import Report, print_markdown
from .results import report
from .steps import WEIGHTS, RunOptions
from .supervision import Supervisor


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
    if unknown := set(only or ()) - set(WEIGHTS):
        raise InputError(f"--only {min(unknown)}: there is none; take {', '.join(WEIGHTS)}")
    steps = tuple(step for step in WEIGHTS if not only or step in only)
    place = torch.device(device)
    if place.type == "cuda":
        from hficma.engine.gpu.gpu_index import cuda_device

        place = cuda_device(device)
    elif place.type != "cpu":
        raise InputError(f"--device {device}: takes cuda[:N], or cpu to try it at a tiny size")
    with tempfile.TemporaryDirectory(prefix="hficma-bench-gpu-") as folder:
        options = RunOptions(
            device=str(place), seconds=seconds, steps=steps, folder=Path(folder)
        )  # fmt: skip
        print_markdown(supervise(options, out).markdown())
    TextConsole().print(f"results: {out}")


def supervise(options: RunOptions, out: Path) -> Report:
    """Measure the steps in processes of their own, and write what there is after each row.

    Args:
        options: of the run.
        out: the file of results.
    """
    began = time.perf_counter()
    console = TextConsole(stderr=True)
    step: str | None = None

    def write(run: Supervisor) -> Report:
        nonlocal step
        took = time.perf_counter() - began
        if run.step != step:
            step = run.step
            console.print(f"{took:4.0f} s: {step}", highlight=False)
        result = report(options, run.device_name, run.tables, took)
        result.write(out)
        return result

    supervisor = Supervisor(options, write)
    supervisor.run()
    return write(supervisor)


if __name__ == "__main__":
    typer.run(main)
