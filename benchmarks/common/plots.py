"""Plots of benchmarks: SVG that stands inside a page, and a file of how a search grows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

from hficma.artifacts.manifest import write_atomically
from hficma.errors import InputError, MissingDependencyError
from hficma.training.runs.curves import figure_svg

from .report import Row, Table

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
    """Plot a figure in percent against latency, and return SVG.

    Args:
        table: rows are named `ENGINE, CHOICE`, with a column `p50`: a line an engine, a point a
            choice.
        column: on the vertical axis.
        label: of that axis.
    """
    canvas = blank_figure(*SIZE)
    axes = _axes(canvas, "median latency of a search, ms (numbers: candidates)")
    lines: dict[str, list[Row]] = {}
    for row in table.rows:
        lines.setdefault(row.name.rpartition(", ")[0], []).append(row)
    for name, colour, marker in zip(lines, cycle(COLOURS), cycle(MARKERS)):
        latency, values = _column(lines[name], "p50"), _column(lines[name], column)
        axes.plot(latency, values, color=colour, marker=marker, markersize=5, label=name)
    # The choices of the other lines are in the same order as those of the first.
    for row in next(iter(lines.values())):
        (place,) = zip(_column([row], "p50"), _column([row], column), strict=True)
        axes.annotate(
            row.name.rpartition(", ")[2].split()[0], place, textcoords="offset points",
            xytext=(5, -12), fontsize=8, color=COLOURS[0],
        )  # fmt: skip
    values = _column(table.rows, column)
    low, high = min(values), max(values)
    # Never so narrow that a point of one query looks like a cliff.
    span = max(LEAST_SPAN, 1.4 * (high - low))
    bottom = max(0.0, min((low + high - span) / 2, 102 - span))
    axes.set(ylabel=label, ylim=(bottom, min(102.0, bottom + span)))
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=8, loc="best")
    return figure_svg(lambda: canvas, f"choices-{column}")


def bars_plot(
    bars: Mapping[str, float], label: str, salt: str, *, whole: Collection[str] = ()
) -> str:
    """Plot horizontal bars from zero, each with its number, and return SVG.

    Args:
        bars: lengths by name, the first at the top.
        label: of the axis.
        salt: another for every plot of a page.
        whole: bars that are sums of others, in another colour.
    """
    canvas = blank_figure(SIZE[0], 0.6 + 0.36 * len(bars))
    axes = _axes(canvas, label)
    places = range(len(bars))[::-1]
    colours = [COLOURS[5 if name in whole else 0] for name in bars]
    drawn = axes.barh(places, list(bars.values()), color=colours, height=0.62)
    axes.bar_label(drawn, fmt=" {:,.2f}", fontsize=8, color="#333333")
    axes.set_yticks(list(places), list(bars))
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.18)
    return figure_svg(lambda: canvas, f"bars-{salt}")


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
    if path.suffix not in (".svg", ".png"):
        raise InputError(f"{path}: a plot is .svg or .png")
    canvas = blank_figure(5.5 * len(panels), 4.4)
    for number, (label, lines) in enumerate(panels.items(), start=1):
        axes = _axes(canvas, "recipes in the index", (1, len(panels), number))
        for (name, values), colour, marker in zip(lines.items(), COLOURS, MARKERS, strict=False):
            axes.plot(sizes, values, color=colour, marker=marker, markersize=5, label=name)
        first = next(iter(lines.values()))[0]
        linear = [first * size / sizes[0] for size in sizes]
        axes.plot(sizes, linear, color="#aaaaaa", linestyle=":", zorder=0, label="linear")
        every = [value for values in lines.values() for value in values]
        axes.set(xscale="log", yscale="log", ylabel=label)
        axes.set_ylim(min(every) / 1.6, max(every) * 1.6)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    content = BytesIO()
    canvas.savefig(content, format=path.suffix[1:], dpi=160)
    write_atomically(path, content.getvalue())


def _axes(canvas: Any, label: str, place: tuple[int, int, int] = (1, 1, 1)) -> Any:
    """Add axes without a frame, with a label below."""
    axes = canvas.add_subplot(*place, xlabel=label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_fontsize(9)
    return axes


def _column(rows: Sequence[Row], key: str) -> list[float]:
    return [figure.value for row in rows if (figure := row.cells.get(key)) is not None]
