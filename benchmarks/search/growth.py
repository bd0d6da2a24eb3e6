"""What a search costs as its index grows: every stage's time, memory and disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hficma.engine import Engine

from ..common.hardware import serving
from ..common.synthetic_index import synthetic_index
from .reranking import CANDIDATES, Cells

TIMES = ("total", "encode", "prefilter", "rerank", "records")
"""Stages that are plotted, with opening."""
MEMORIES = {"own_mb": "of its own", "peak_mb": "resident at its peak", "disk_mb": "index on disk"}


def growth_table(
    bundle: Path, folder: Path, photo: Path, sizes: Sequence[int], *, threads: int, queries: int
) -> list[Cells]:
    """Measure every stage's time and the memory of a serving process as the index grows.

    Args:
        bundle: random weights do.
        folder: where synthetic indexes lie between runs.
        photo: the query.
        sizes: recipes of each index, whose tokens are stored in fp16.
        threads: of the engine.
        queries: searches, of which the median counts.
    """
    rows: list[Cells] = []
    for size in sizes:
        index = synthetic_index(
            bundle, folder / f"drawn-{size}-tokens-{bundle.name}", size,
            level="tokens", precision="fp16", prefilter="SQfp16",
        )  # fmt: skip
        with Engine.open(index, threads=threads) as engine:
            answers = [
                engine.search(image=photo, candidates=CANDIDATES) for _ in range(queries + 3)
            ][3:]
        served = serving(index, bundle, photo, threads=threads, device="cpu")
        files = sum(file.stat().st_size for file in index.rglob("*") if file.is_file())
        medians = {
            f"{name}_ms": float(np.median([answer.milliseconds[name] for answer in answers]))
            for name in answers[0].milliseconds
        }
        rows.append(
            {
                "what": f"{size:,} recipes",
                "size": size,
                **medians,
                "open_s": served["open_seconds"],
                "own_mb": served["own_mb"],
                "peak_mb": served["peak_mb"],
                "disk_mb": files / 1e6,
            }
        )
    return rows


def growth_panels(rows: Sequence[Cells]) -> Mapping[str, Mapping[str, list[float]]]:
    """Return the table's times and memory as `write_growth_plot` takes them."""
    times = {name: [float(row[f"{name}_ms"]) for row in rows] for name in TIMES}
    times["opening"] = [1000 * float(row["open_s"]) for row in rows]
    memory = {label: [float(row[name]) for row in rows] for name, label in MEMORIES.items()}
    return {"a search, median ms (opening: once)": times, "a serving process, MB": memory}
