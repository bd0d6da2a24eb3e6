"""`curves.html`: the course of one or several runs as one page of plots that opens anywhere.

Drawn by matplotlib and set into the page as SVG: no script, and nothing to download. AdaMine's
twelve plots come first (training loss, idle pairs, medR and recalls in both directions, whether
the image encoder is trained, gradient norm), then ours.
"""

from __future__ import annotations

import html
import importlib.util
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from hficma.artifacts.manifest import write_atomically
from hficma.errors import MissingDependencyError

from .log import read_log
from .run import CURVES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Record = dict[str, Any]

SIZE = (4.2, 2.3)
"""Inches of a plot: its labels can be read at the width of a phone."""
DOTS = 60
"""A line of at most so many points shows each of them."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b08900", "#56b4e9", "#4a4a4a", "#7a4988")
"""By run; those who see few colours can tell the first six apart (Okabe and Ito 2008)."""
_DIRECTIONS = {"image_to_recipe": "photo to recipe", "recipe_to_image": "recipe to photo"}


@dataclass(frozen=True)
class Plot:
    """One plot: its title, and where its figure stands in a record of the log."""

    title: str
    kind: Literal["step", "epoch"]
    """Of the records that hold it."""
    path: tuple[str, ...]
    """Keys of the figure, from the record inwards."""
    better: Literal["lower", "higher"] | None = None
    """Which values are the better ones; None where neither is."""
    usual: tuple[float, ...] = ()
    """Values of which a line that keeps to one tells nothing, so that it is not drawn."""


class Point(NamedTuple):
    """One value of a figure."""

    epoch: float
    """Epochs done by then, a fraction within an epoch."""
    value: float
    interval: tuple[float, float] | None
    """Its 95 % interval over queries, where the log has one."""


def plots() -> list[Plot]:
    """Return every plot, in the page's order."""
    validation = [
        Plot(
            f"{title}: {figure}",
            "epoch",
            ("validation", direction, figure),
            "lower" if figure == "medR" else "higher",
        )
        for direction, title in _DIRECTIONS.items()
        for figure in ("medR", "R@1", "R@5", "R@10")
    ]
    return [
        Plot("training loss", "epoch", ("train", "loss"), "lower"),
        Plot("share of idle pairs", "epoch", ("train", "bad_pairs")),
        *validation,
        Plot("image encoder trained (1) or not (0)", "epoch", ("trunk_trained",), usual=(0, 1)),
        Plot("gradient norm", "step", ("norm",)),
        Plot("skipped steps", "epoch", ("skipped",), "lower", usual=(0,)),
        Plot("recall sum", "epoch", ("validation", "recall_sum"), "higher"),
        Plot("loss on S", "epoch", ("train", "on_score"), "lower"),
        Plot("loss on S_global", "epoch", ("train", "on_global"), "lower"),
        Plot("loss on S_local", "epoch", ("train", "on_local"), "lower"),
        Plot("learning rate", "step", ("lr",)),
        Plot("seconds an epoch", "epoch", ("seconds",), "lower"),
    ]


def write_curves(
    runs: Sequence[Path], page: Path | None = None, *, names: Sequence[str] | None = None
) -> Path:
    """Write the page of one run into it, or of several, overlaid, to `page`.

    Args:
        runs: run directories; the first gives the place where `page` is None.
        page: where to write.
        names: what each run is called on the page, all different; None takes its folder's name.

    Returns:
        the page's path.

    Raises:
        ArtifactError: a run has no log.
        MissingDependencyError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingDependencyError("matplotlib", "train", "drawing curves")
    names = names or [run.name for run in runs]
    logs = {name: read_log(run) for name, run in zip(names, runs, strict=True)}
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(logs)}
    figures = []
    for plot in plots():
        lines = {name: _points(log, plot) for name, log in logs.items()}
        lines = {name: points for name, points in lines.items() if points}
        values = {point.value for points in lines.values() for point in points}
        if values and not (len(values) == 1 and values <= set(plot.usual)):
            figures.append(_figure(plot, lines, colours))
    legend = "\n".join(
        f'<li><span style="color:{colour}">&#9632;</span> '
        f"{html.escape(name)}{_pairs(logs[name])}</li>"
        for name, colour in colours.items()
    )
    text = _PAGE.format(
        title=html.escape(", ".join(logs)), legend=legend, figures="\n".join(figures)
    )
    target = page or runs[0] / CURVES
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, text.encode())
    return target


def _pairs(log: Sequence[Record]) -> str:
    """Return how many validation pairs recalls are of, where the log says."""
    for record in log:
        for direction in record.get("validation", {}).values():
            if isinstance(direction, dict) and "queries" in direction:
                return f", validated on {direction['queries']} pairs"
    return ""


def _points(log: Sequence[Record], plot: Plot) -> list[Point]:
    """Return the finite values of a plot's figure in one log."""
    last_step = {r["epoch"]: r["step"] for r in log if r["kind"] == "epoch"}
    points = []
    for record in log:
        if record["kind"] != plot.kind:
            continue
        value = _at(record, plot.path)
        if not isinstance(value, int | float) or not math.isfinite(value):
            continue
        # A step stands at its share of the epoch; one whose epoch never ended, at the end of it.
        epoch, before = record["epoch"], last_step.get(record["epoch"] - 1, 0)
        end = last_step.get(epoch, before)
        within = (record["step"] - before) / (end - before) if end > before else 1.0
        interval = _at(record, (*plot.path[:-1], "intervals", plot.path[-1]))
        points.append(
            Point(epoch - 1 + within, float(value), tuple(interval) if interval else None)
        )
    return points


def _at(record: Record, path: Sequence[str]) -> Any:
    """Return what stands at nested keys; None where one of them is missing."""
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _figure(plot: Plot, lines: dict[str, list[Point]], colours: dict[str, str]) -> str:
    """Return one plot as an HTML figure: its title, the SVG, and each line's best or last value."""
    mark = {"lower": "&#8595; lower is better", "higher": "&#8593; higher is better"}
    notes = []
    for name, points in lines.items():
        if plot.better is None:
            label, point = "last", points[-1]
        else:
            best = min if plot.better == "lower" else max
            label, point = "best", best(points, key=lambda one: one.value)
        notes.append(
            f'<span style="color:{colours[name]}">&#9632;</span> {label} {point.value:.4g}'
            f" in epoch {math.ceil(point.epoch)}"
        )
    svg = figure_svg(lambda: _draw(plot, lines, colours), plot.title, **{"font.size": 8.5})
    return (
        f"<figure><figcaption><b>{html.escape(plot.title)}</b>"
        f"<span>{mark.get(plot.better or '', '')}</span></figcaption>"
        f"{svg}<p>{' &#160; '.join(notes)}</p></figure>"
    )


def figure_svg(draw: Callable[[], Figure], salt: str, **settings: object) -> str:
    """Return a plot as an SVG element, which takes the width that the page gives it.

    Args:
        draw: gives matplotlib's figure.
        salt: of the ids in the SVG; those of two plots in one page must differ.
        settings: further ones of matplotlib, under which it is drawn.
    """
    from matplotlib import rc_context

    text = StringIO()
    with rc_context({"svg.hashsalt": salt, "svg.fonttype": "path", **settings}):
        draw().savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)


def _draw(plot: Plot, lines: dict[str, list[Point]], colours: dict[str, str]) -> Figure:
    """Return one plot as matplotlib's figure: a line a run, with its interval shaded."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    for name, points in lines.items():
        epochs, values = [one.epoch for one in points], [one.value for one in points]
        marker = "o" if len(points) <= DOTS else ""
        axes.plot(
            epochs, values, color=colours[name], marker=marker, markersize=3, linewidth=1.3,
            clip_on=False,
        )  # fmt: skip
        ends = [one.interval for one in points if one.interval is not None]
        if len(ends) == len(points):
            low, high = zip(*ends, strict=True)
            axes.fill_between(epochs, low, high, color=colours[name], alpha=0.12, linewidth=0)
    axes.set_xlabel("epoch")
    axes.set_xlim(left=0)
    low, high = axes.dataLim.intervaly
    if low >= 0:
        # From 0: a small change must not look like a cliff.
        axes.set_ylim(0, 1.06 * high or 1)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=(1, 2, 5, 10), integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
    # Whole numbers beside the ticks, where matplotlib would write "+2.9e1" above them.
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return figure


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1.2em; color: #222; background: #fff; }}
h1 {{ font-size: 1.4em; overflow-wrap: anywhere; }}
ul {{ list-style: none; padding: 0; overflow-wrap: anywhere; }}
main {{ display: grid; gap: 1em;
  grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); }}
figure {{ margin: 0; padding: .6em; border: 1px solid #ddd; border-radius: 4px; }}
figcaption {{ display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1em; }}
figcaption span, figure p, .note {{ color: #555; font-size: .87em; margin: 0; }}
.note {{ margin-bottom: 1em; }}
svg {{ width: 100%; height: auto; }}
</style></head><body>
<h1>{title}</h1>
<ul>
{legend}
</ul>
<p class="note">Shaded, where the log has it: the 95 % interval over queries.</p>
<main>
{figures}
</main></body></html>
"""
