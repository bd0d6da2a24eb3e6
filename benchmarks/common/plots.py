"""The report's plots, as SVG that stands inside a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from hficma.errors import MissingDependencyError

from ..search.stages import TOTAL
from .report import Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (5.4, 3.5)
"""Inches: readable at the width of a phone."""
LEAST_SPAN = 20.0
"""Points of an axis of percentages."""
COLOURS = ("#0b6e4f", "#c8553d", "#3d5a98", "#b08900", "#7a4988", "#4a4a4a")


def choices_plot(table: Table, figure: str, label: str) -> str:
    """A figure of the sweep against latency: a line an engine, a point a number of candidates.

    Args:
        table: of the sweep.
        figure: the column on the vertical axis.
        label: of that axis.
    """
    canvas, axes = _figure()
    lines: dict[str, list[Row]] = {}
    for row in table.rows:
        lines.setdefault(row.name.rpartition(", ")[0], []).append(row)
    for (name, rows), colour, marker in zip(
        lines.items(), _cycled(COLOURS, len(lines)), _cycled("osD^vP", len(lines)), strict=True
    ):
        latency, values = _column(rows, "p50"), _column(rows, figure)
        axes.plot(latency, values, color=colour, marker=marker, markersize=5, label=name)
        if name == next(iter(lines)):
            for row, x, y in zip(rows, latency, values, strict=True):
                count = row.name.rpartition(", ")[2].split()[0]
                axes.annotate(
                    count, (x, y), textcoords="offset points", xytext=(5, -12), fontsize=8,
                    color=colour,
                )  # fmt: skip
    axes.set_xlabel("median latency of a search, ms (numbers: candidates)")
    axes.set_ylabel(label)
    axes.set_xlim(left=0)
    axes.set_ylim(*percents([value for row in table.rows for value in _column([row], figure)]))
    axes.legend(frameon=False, fontsize=8, loc="best")
    return _svg(canvas, f"choices-{figure}")


def percents(values: Sequence[float]) -> tuple[float, float]:
    """An axis for percentages: never so narrow that a point of one query looks like a cliff."""
    low, high = min(values), max(values)
    wanted = max(LEAST_SPAN, 1.4 * (high - low))
    bottom = max(0.0, min((low + high - wanted) / 2, 102 - wanted))
    return bottom, min(102.0, bottom + wanted)


def bars_plot(table: Table, column: str, label: str) -> str:
    """One figure of a table as horizontal bars from zero, each with its number."""
    rows = [row for row in table.rows if row.cells.get(column)]
    canvas, axes = _figure(height=0.6 + 0.36 * len(rows))
    values = _column(rows, column)
    places = range(len(rows))[::-1]
    colours = [COLOURS[5] if row.name == TOTAL else COLOURS[0] for row in rows]
    axes.barh(places, values, color=colours, height=0.62)
    axes.set_yticks(list(places), [row.name for row in rows])
    axes.tick_params(axis="y", length=0)
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            f" {value:,.2f}", (value, place), va="center", ha="left", fontsize=8, color="#333333"
        )
    axes.margins(x=0.18)
    axes.set_xlabel(label)
    return _svg(canvas, f"bars-{table.key}-{column}")


def _figure(height: float = SIZE[1]) -> tuple[Any, Axes]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "report", "a benchmark's plots") from error
    canvas = Figure(figsize=(SIZE[0], height), layout="constrained")
    axes = canvas.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    return canvas, axes


def _column(rows: Sequence[Row], key: str) -> list[float]:
    return [figure.value for row in rows if (figure := row.cells.get(key)) is not None]


def _cycled(values: Sequence[str], count: int) -> list[str]:
    return [values[i % len(values)] for i in range(count)]


def _svg(canvas: Any, salt: str) -> str:
    from matplotlib import rc_context

    text = StringIO()
    # Ids follow from the salt: plots of one page must not share them.
    with rc_context({"svg.hashsalt": salt, "svg.fonttype": "path"}):
        canvas.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
