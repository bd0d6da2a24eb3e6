"""What a search costs as its index grows: every stage's time, memory and disk, and their plot."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hficma.artifacts.manifest import write_atomically
from hficma.engine import Engine
from hficma.engine.index.item_encoding import Level
from hficma.errors import InputError, MissingDependencyError

from ..common.hardware import serving
from ..common.plots import COLOURS
from ..common.synthetic_index import drawn_index
from .engine_measures import CANDIDATES

TIMES = ("total", "encode", "prefilter", "rerank", "records")
"""Stages that are plotted, with opening."""
MEMORIES = {"own_mb": "of its own", "peak_mb": "resident at its peak", "disk_mb": "index on disk"}
FLOOR_MS = 0.5
"""Stages below this are noise, whose growth says nothing."""

Rows = list[dict[str, str | float]]


def growth_table(
    bundle: Path,
    folder: Path,
    photo: Path,
    sizes: Sequence[int],
    *,
    keep: Level,
    threads: int,
    queries: int,
    precision: str = "fp32",
) -> Rows:
    """Every stage's time and the memory of a serving process as the index grows.

    Args:
        bundle: random weights do.
        folder: where drawn indexes are kept.
        photo: asked.
        sizes: recipes of each index.
        keep: level of their sides, in fp16.
        threads: of the engine.
        queries: searches, of which the median counts.
        precision: of the image branch.
    """
    rows: Rows = []
    for size in sizes:
        began = time.perf_counter()
        index = drawn_index(
            bundle, folder / f"drawn-{size}-{keep}-{bundle.name}", size,
            keep=keep, side_precision="fp16", prefilter="SQfp16",
        )  # fmt: skip
        drawn = time.perf_counter() - began
        with Engine.open(index, precision=precision, threads=threads) as engine:
            for _ in range(3):
                engine.search(image=photo, candidates=CANDIDATES)
            answers = [engine.search(image=photo, candidates=CANDIDATES) for _ in range(queries)]
        served = serving(index, bundle, photo, threads=threads, device="cpu")
        stages = {
            name: float(np.median([answer.milliseconds[name] for answer in answers]))
            for name in answers[0].milliseconds
        }
        files = sum(file.stat().st_size for file in index.rglob("*") if file.is_file())
        rows.append(
            {
                "what": f"{size:,} recipes",
                "size": size,
                **{f"{stage}_ms": ms for stage, ms in stages.items()},
                "open_s": served["open_seconds"],
                "own_mb": served["own_mb"],
                "peak_mb": served["peak_mb"],
                "disk_mb": files / 1e6,
                "drawn_s": drawn,
            }
        )
    return rows


def steepest(rows: Rows) -> str:
    """The stage that grows fastest between two neighbouring sizes, in one line.

    Time as size to the power of 1 is linear.
    """
    found = [
        (
            math.log(after / before) / math.log(float(large["size"]) / float(small["size"])),
            name,
            small,
            large,
        )
        for small, large in pairwise(rows)
        for name in [f"{stage}_ms" for stage in TIMES]
        for before, after in [(float(small[name]), float(large[name]))]
        if before >= FLOOR_MS
    ]
    if not found:
        return "one size only: nothing grows"
    power, name, small, large = max(found, key=lambda one: one[0])
    return (
        f"steepest stage: {name.removesuffix('_ms')}, as size to the power of {power:.2f} "
        f"from {small['what']} to {large['what']}"
    )


def write_growth_plot(rows: Rows, path: Path) -> None:
    """Plot the table's times and memory against the size, on logarithmic axes.

    Args:
        rows: of `growth_table`.
        path: `.svg` or `.png`.

    Raises:
        InputError: another suffix.
    """
    kind = path.suffix.removeprefix(".")
    if kind not in ("svg", "png"):
        raise InputError(f"--plot {path}: a plot is .svg or .png")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "report", "a benchmark's plots") from error
    canvas = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = canvas.subplots(1, 2)
    sizes = [float(row["size"]) for row in rows]
    times = {name: [float(row[f"{name}_ms"]) for row in rows] for name in TIMES}
    times["opening"] = [1000 * float(row["open_s"]) for row in rows]
    _lines(left, sizes, times, "a search, median ms (opening: once)")
    memory = {label: [float(row[name]) for row in rows] for name, label in MEMORIES.items()}
    _lines(right, sizes, memory, "a serving process, MB")
    content = BytesIO()
    canvas.savefig(content, format=kind, dpi=160)
    write_atomically(path, content.getvalue())


def _lines(axes: Any, sizes: list[float], lines: dict[str, list[float]], label: str) -> None:
    for (name, values), colour, marker in zip(lines.items(), COLOURS, "osD^vP", strict=False):
        axes.plot(sizes, values, color=colour, marker=marker, markersize=5, label=name)
    every = [value for values in lines.values() for value in values]
    first = next(iter(lines.values()))[0]
    axes.plot(
        sizes, [first * size / sizes[0] for size in sizes],
        color="#aaaaaa", linestyle=":", linewidth=1, zorder=0, label="linear",
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(min(every) / 1.6, max(every) * 1.6)
    axes.set_xlabel("recipes in the index")
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eeeeee")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
