"""Plots of benchmarks: SVG that stands inside a page, and a file of how a search grows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hficma.artifacts.manifest import write_atomically
from hficma.errors import InputError, MissingDependencyError
from hficma.training.runs.curves import figure_svg

from .report import Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (5.4, 3.5)
"""Inches: readable at the width of a phone."""
LEAST_SPAN = 20.0
"""Points of an axis of percentages."""
COLOURS = ("#0b6e4f", "#c8553d", "#3d5a98", "#b08900", "#7a4988", "#4a4a4a")
MARKERS = "osD^vP"


def blank_figure(width: float, height: float) -> Any:
    """Return an empty figure of so many inches, which no window shows.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "report", "a benchmark's plots") from error
    return Figure(figsize=(width, height), layout="constrained")


def choices_plot(table: Table, column: str, label: str) -> str:
    """Plot a figure against latency: a line an engine, a point a number of candidates.

    Args:
        table: rows are named `ENGINE, CHOICE`, with a column `p50`.
        column: on the vertical axis, in percent.
        label: of that axis.

    Returns:
        SVG.
    """
    canvas = blank_figure(*SIZE)
    axes = _axes(canvas)
    lines: dict[str, list[Row]] = {}
    for row in table.rows:
        lines.setdefault(row.name.rpartition(", ")[0], []).append(row)
    for number, (name, colour, marker) in enumerate(zip(lines, cycle(COLOURS), cycle(MARKERS))):
        latency, values = _column(lines[name], "p50"), _column(lines[name], column)
        axes.plot(latency, values, color=colour, marker=marker, markersize=5, label=name)
        if number:
            continue  # the choices of the other lines are in the same order
        for row, x, y in zip(lines[name], latency, values, strict=True):
            axes.annotate(
                row.name.rpartition(", ")[2].split()[0], (x, y), textcoords="offset points",
                xytext=(5, -12), fontsize=8, color=colour,
            )  # fmt: skip
    axes.set_xlabel("median latency of a search, ms (numbers: candidates)")
    axes.set_ylabel(label)
    axes.set_xlim(left=0)
    values = _column(table.rows, column)
    low, high = min(values), max(values)
    # Never so narrow that a point of one query looks like a cliff.
    span = max(LEAST_SPAN, 1.4 * (high - low))
    bottom = max(0.0, min((low + high - span) / 2, 102 - span))
    axes.set_ylim(bottom, min(102.0, bottom + span))
    axes.legend(frameon=False, fontsize=8, loc="best")
    return figure_svg(lambda: canvas, f"choices-{column}")


def bars_plot(table: Table, column: str, label: str, *, whole: Collection[str] = ()) -> str:
    """Plot a column as horizontal bars from zero, each with its number.

    Args:
        table: whose rows are the bars.
        column: their lengths.
        label: of the axis.
        whole: rows that are sums of others, in another colour.

    Returns:
        SVG.
    """
    rows = [row for row in table.rows if row.cells.get(column)]
    canvas = blank_figure(SIZE[0], 0.6 + 0.36 * len(rows))
    axes = _axes(canvas)
    values = _column(rows, column)
    places = range(len(rows))[::-1]
    colours = [COLOURS[5 if row.name in whole else 0] for row in rows]
    bars = axes.barh(places, values, color=colours, height=0.62)
    axes.bar_label(bars, fmt=" {:,.2f}", fontsize=8, color="#333333")
    axes.set_yticks(list(places), [row.name for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.18)
    axes.set_xlabel(label)
    return figure_svg(lambda: canvas, f"bars-{table.key}-{column}")


def write_growth_plot(
    path: Path, sizes: Sequence[float], panels: Mapping[str, Mapping[str, Sequence[float]]]
) -> None:
    """Plot quantities against the size of an index, on logarithmic axes, beside a linear one.

    Args:
        path: `.svg` or `.png`.
        sizes: items of each index.
        panels: by the vertical axis' label, lines by name.

    Raises:
        InputError: another suffix.
    """
    kind = path.suffix.removeprefix(".")
    if kind not in ("svg", "png"):
        raise InputError(f"{path}: a plot is .svg or .png")
    canvas = blank_figure(5.5 * len(panels), 4.4)
    grid = canvas.subplots(1, len(panels), squeeze=False)[0]
    for axes, (label, lines) in zip(grid, panels.items(), strict=True):
        for (name, values), colour, marker in zip(lines.items(), COLOURS, MARKERS, strict=False):
            axes.plot(sizes, values, color=colour, marker=marker, markersize=5, label=name)
        every = [value for values in lines.values() for value in values]
        first = next(iter(lines.values()))[0]
        axes.plot(
            sizes, [first * size / sizes[0] for size in sizes],
            color="#aaaaaa", linestyle=":", linewidth=1, zorder=0, label="linear",
        )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="recipes in the index", ylabel=label)
        axes.set_ylim(min(every) / 1.6, max(every) * 1.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#eeeeee")
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    content = BytesIO()
    canvas.savefig(content, format=kind, dpi=160)
    write_atomically(path, content.getvalue())


def _axes(canvas: Any) -> Axes:
    axes: Axes = canvas.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    return axes


def _column(rows: Sequence[Row], key: str) -> list[float]:
    return [figure.value for row in rows if (figure := row.cells.get(key)) is not None]
