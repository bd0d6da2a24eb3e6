"""The quality table: its rows, and from the ranks that training runs reached to figures."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hficma.metrics import DIRECTIONS, prefilter_recall, ranks
from hficma.training.ranking import PREFILTER_DEPTHS
from hficma.training.scoring import ScoreTables
from hficma.types import Floats, Ranks

from .bootstrap import estimates

PARTS = ("S", "S_global")
_PLACE = re.compile(r"\$(\w+)")
Record = dict[str, Any]
"""JSON values."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the table, as `methods.toml` explains its keys."""

    name: str
    note: str
    preset: str | None = None
    """None: nothing is trained by a preset; canonical correlation analysis."""
    overrides: tuple[str, ...] = ()
    seeds: int = 3

    @property
    def needs(self) -> set[str]:
        """Return the names of the files and folders that its options name as `$name`."""
        return {name for option in self.overrides for name in _PLACE.findall(option)}

    def options(self, places: Mapping[str, str]) -> list[str]:
        """Return the overrides with `$name` replaced.

        Args:
            places: path by name; a name that is not there stands for itself, so that options
                compare whatever the files are called.
        """
        return [
            _PLACE.sub(lambda match: places.get(match[1], match[1]), option)
            for option in self.overrides
        ]


def _methods(entries: Sequence[Record]) -> Iterator[Method]:
    for entry in entries:
        options = {**entry, "overrides": tuple(entry.get("overrides", ()))}
        if isinstance(entry["name"], list):  # presets that are trained alike
            for name in entry["name"]:
                yield Method(**{**options, "name": name, "preset": name})
        else:
            yield Method(**options)


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
            way: {
                str(k): prefilter_recall(scores["S", way], scores["S_global", way], k)
                for k in PREFILTER_DEPTHS
            }
            for way in DIRECTIONS
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
    return {
        **method,
        **{
            part: {
                way: estimates(_ranks(runs, part, way), _ranks(baseline, "S_global", way))
                for way in DIRECTIONS
            }
            for part in PARTS
        },
        "seeds": len(runs),
        "seconds": round(sum(run["seconds"] for run in runs), 1),
        "prefilter_recall": {
            way: {
                str(k): float(np.mean([run["prefilter_recall"][way][str(k)] for run in runs]))
                for k in PREFILTER_DEPTHS
            }
            for way in DIRECTIONS
        },
    }


def _ranks(runs: Sequence[Record], part: str, direction: str) -> Ranks:
    return np.array([run["ranks"][part][direction] for run in runs], dtype=np.int64)
