"""The quality table: its rows, and from the ranks that training runs reached to figures."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hficma.metrics import DIRECTIONS, prefilter_recall, ranks
from hficma.training.evaluation_figures import PREFILTER_DEPTHS
from hficma.training.scoring import ScoreTables
from hficma.types import Floats, Ranks

from ..common.bootstrap import estimates

PARTS = ("S", "S_global")
Record = dict[str, Any]
"""JSON values."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the table, of `methods.toml`."""

    name: str
    preset: str | None
    """None: nothing is trained by a preset; canonical correlation analysis."""
    overrides: tuple[str, ...]
    """On top of the preset: the sizes at which every system is compared."""
    seeds: int
    """Training runs."""
    note: str
    """What must be known of it."""


def _methods(entries: Sequence[Record]) -> Iterator[Method]:
    for entry in entries:
        # Several names: presets that are trained alike.
        names = entry["name"] if isinstance(entry["name"], list) else [entry["name"]]
        for name in names:
            yield Method(
                name=name, preset=name if len(names) > 1 else entry.get("preset"),
                overrides=tuple(entry.get("overrides", ())), seeds=entry.get("seeds", 3),
                note=entry["note"],
            )  # fmt: skip


_FILE = tomllib.loads(Path(__file__).with_name("methods.toml").read_text(encoding="utf-8"))
METHODS = tuple(_methods(_FILE["method"]))
BASELINE = METHODS[0].name
"""All others are compared with it."""
VECTORS = tuple(_FILE["common"])
"""Widths of the word vectors that all methods read, and of the sentence encoder of some."""


def views(tables: ScoreTables) -> list[tuple[str, str, Floats]]:
    """Return scores with queries down and candidates across, by part and direction."""
    return [
        (part, direction, scores if direction == "image_to_recipe" else scores.T)
        for part, scores in zip(PARTS, (tables.total, tables.global_), strict=True)
        for direction in DIRECTIONS
    ]


def run_record(seed: int, tables: ScoreTables, seconds: float) -> Record:
    """Return what one training run reached: each query's rank, and what the prefilter finds.

    Args:
        seed: of the training.
        tables: scores of the test pairs.
        seconds: the run took.
    """
    scores = {(part, direction): table for part, direction, table in views(tables)}
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "ranks": {
            part: {direction: ranks(scores[part, direction]).tolist() for direction in DIRECTIONS}
            for part in PARTS
        },
        "prefilter_recall": {
            direction: {
                str(depth): prefilter_recall(
                    scores["S", direction], scores["S_global", direction], depth
                )
                for depth in PREFILTER_DEPTHS
            }
            for direction in DIRECTIONS
        },
    }


def with_figures(method: Record, baseline: Sequence[Record]) -> Record:
    """Return a method's record with the figures over its runs.

    Args:
        method: with "runs", the records of its training runs.
        baseline: runs of the method that all are compared with, by its S_global.

    Returns:
        the same and "seeds", "seconds", "prefilter_recall", and by part and direction each figure
        with its bootstrap interval and the paired difference.
    """
    runs = method["runs"]
    figures = {
        part: {
            direction: estimates(
                _ranks(runs, part, direction), _ranks(baseline, "S_global", direction)
            )
            for direction in DIRECTIONS
        }
        for part in PARTS
    }
    prefilter = {
        direction: {
            str(depth): float(
                np.mean([run["prefilter_recall"][direction][str(depth)] for run in runs])
            )
            for depth in PREFILTER_DEPTHS
        }
        for direction in DIRECTIONS
    }
    seconds = round(sum(run["seconds"] for run in runs), 1)
    return {
        **method, **figures, "seeds": len(runs), "seconds": seconds, "prefilter_recall": prefilter,
    }  # fmt: skip


def _ranks(runs: Sequence[Record], part: str, direction: str) -> Ranks:
    return np.array([run["ranks"][part][direction] for run in runs], dtype=np.int64)
