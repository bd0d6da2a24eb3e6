"""The quality table: from the ranks that training runs reached to figures and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hficma.metrics import DIRECTIONS, prefilter_recall, ranks
from hficma.training.evaluation_figures import PREFILTER_DEPTHS
from hficma.training.scoring import ScoreTables

from ..common.bootstrap import estimates

PARTS = ("S", "S_global")
Record = dict[str, Any]
"""JSON values."""


def views(tables: ScoreTables) -> list[tuple[str, str, npt.NDArray[np.float32]]]:
    """Scores with queries down and candidates across, by part and direction."""
    return [
        (part, direction, scores if direction == "image_to_recipe" else scores.T)
        for part, scores in zip(PARTS, (tables.total, tables.global_), strict=True)
        for direction in DIRECTIONS
    ]


def run_record(seed: int, tables: ScoreTables, seconds: float) -> Record:
    """What one training run reached: each query's rank, and what the prefilter keeps.

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
            direction: _kept(scores["S", direction], scores["S_global", direction])
            for direction in DIRECTIONS
        },
    }


def with_figures(method: Record, baseline: Sequence[Record]) -> Record:
    """A method's record with the figures over its runs.

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
    kept = [run["prefilter_recall"] for run in runs]
    return {
        **method,
        **figures,
        "seeds": len(runs),
        "seconds": round(sum(run["seconds"] for run in runs), 1),
        "prefilter_recall": {
            direction: {
                str(depth): float(np.mean([one[direction][str(depth)] for one in kept]))
                for depth in PREFILTER_DEPTHS
            }
            for direction in DIRECTIONS
        },
    }


def markdown(report: Mapping[str, Any]) -> str:
    """Both directions' tables: by S, by S_global alone, the difference and the prefilter."""
    lines = [f"# {report['title']}", ""]
    lines += [
        f"{report['test_pairs']} test pairs as one bag, never seen while a method was chosen; "
        "means over seeds, 95 % bootstrap intervals over queries, differences paired. Kept: how "
        "often the best item by S is among the first 10, 50 and 100 by S_global."
    ]
    for direction in DIRECTIONS:
        lines += ["", f"## {direction.replace('_', ' ')}", "", *_rows(report, direction)]
    notes = [f"* {one['name']}: {one['note']}." for one in report["methods"] if one["note"]]
    return "\n".join([*lines, "", *notes]) + "\n"


def _rows(report: Mapping[str, Any], direction: str) -> list[str]:
    header = (
        "method", "seeds", "medR", "R@1", "R@5", "R@10", f"R@10 over {report['baseline']}",
        "medR, S_global", "R@10, S_global", "kept at 10 / 50 / 100", "seconds a seed",
    )  # fmt: skip
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    for method in report["methods"]:
        whole, cheap = (method[part][direction] for part in PARTS)
        kept = method["prefilter_recall"][direction]
        cells = (
            method["name"],
            str(method["seeds"]),
            *(_interval(whole[name]) for name in ("medR", "R@1", "R@5", "R@10")),
            _interval(whole["R@10"]["against_baseline"], sign="+"),
            _interval(cheap["medR"]),
            _interval(cheap["R@10"]),
            " / ".join(f"{kept[str(depth)]:.0f}" for depth in PREFILTER_DEPTHS),
            f"{method['seconds'] / method['seeds']:.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _interval(one: Mapping[str, float], sign: str = "") -> str:
    return f"{one['value']:{sign}.1f} [{one['low']:{sign}.1f}, {one['high']:{sign}.1f}]"


def _ranks(runs: Sequence[Record], part: str, direction: str) -> npt.NDArray[np.int64]:
    return np.array([run["ranks"][part][direction] for run in runs], dtype=np.int64)


def _kept(whole: npt.NDArray[np.float32], cheap: npt.NDArray[np.float32]) -> dict[str, float]:
    return {str(depth): prefilter_recall(whole, cheap, depth) for depth in PREFILTER_DEPTHS}
