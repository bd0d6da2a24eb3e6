"""Markdown tables of figures.

A table is a mapping from its columns' labels to format strings over a row's own keys, so that a
column is one line of the file that tells of a benchmark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hficma.metrics import figure_text, recall_interval

from ..common.timing import NOISY

Record = Mapping[str, Any]
Lines = list[str]


def table(columns: Mapping[str, str], rows: Iterable[Record]) -> Lines:
    """Return a table whose first column is text and whose others are figures.

    Args:
        columns: label to a format string over a row's keys; `gemm` is the share of the rate of
            matrix products, `noise` what a time must carry that moved too much between rounds.
        rows: as benchmarks write them.
    """
    cells = []
    for row in rows:
        derived = {
            "noise": noise(row.get("spread", 0.0)),
            "gemm": f"{100 * row.get('gemm_share', 0.0):.0f} %",
        }
        cells.append([form.format_map({**row, **derived}) for form in columns.values()])
    return markdown(list(columns), cells)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Lines:
    """Return a table's lines, not aligned for the eye: a page is read rendered."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)]


def noise(spread: float) -> str:
    """Return what a time must carry whose rounds moved by `spread`, a share of it."""
    return f" ± {100 * spread:.0f} %" if spread > NOISY else ""


def share(percent: float, count: int) -> str:
    """Return a recall in per cent, with its interval over `count` queries."""
    return figure_text(percent, recall_interval(percent, count))
