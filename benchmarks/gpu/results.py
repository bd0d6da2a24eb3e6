"""The results of a run as a report: its few figures that matter most, the machine, its tables."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import torch

from ..common.report import Figure, Report, Table
from ..common.timing import environment
from .steps import RunOptions


def report(
    options: RunOptions, name: str | None, tables: Mapping[str, Table], took: float
) -> Report:
    """Return the report of what was measured so far.

    Args:
        options: of the run.
        name: of the GPU; None where the processors were tried.
        tables: by key, in the order of the steps.
        took: seconds.
    """
    headline = []
    sizes = options.sizes
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
        table = tables.get(key)
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
    return Report(
        title=f"One GPU: {name or 'the processors, to try it'}",
        environment=environment(
            gpu=name, cuda=torch.version.cuda, gpu_packages=packages, machine=platform.machine()
        ),
        options={"device": options.device, "seconds": options.seconds,
                 "recipes": options.recipes, "width": sizes.width, "heads": sizes.heads,
                 "encoder": sizes.encoder},
        headline=tuple(headline),
        notes=tuple(notes),
        tables=tuple(tables.values()),
        seconds=took,
    )  # fmt: skip


def figure_of(table: Table, row: str, column: str) -> Figure | None:
    """Return a figure of a table; None where it was not measured.

    Args:
        table: of this run.
        row: what the row's name begins with.
        column: its key.
    """
    for one in table.rows:
        if one.name.startswith(row):
            return one.cells.get(column)
    return None
