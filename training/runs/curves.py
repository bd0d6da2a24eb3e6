"""`curves.html`: the course of one or several runs as one page of plots that opens anywhere.

Plain SVG, no script and nothing to download: AdaMine's twelve plots (training loss, idle pairs,
medR and recalls in both directions, whether the trunk is trained, gradient norm), and ours.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hficma.artifacts.manifest import write_atomically

from .log import read_log
from .run import CURVES

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 26, 24
COLOURS = ("#c0392b", "#2471a3", "#1e8449", "#b9770e", "#7d3c98", "#117a65", "#566573", "#d35400")

Points = list[tuple[float, float]]

_TITLES = {"image_to_recipe": "photo to recipe", "recipe_to_image": "recipe to photo"}


@dataclass(frozen=True)
class Plot:
    """One plot: its title and the path of its figure in a log record."""

    title: str
    kind: str
    """Of the records: `step` or `epoch`."""
    path: tuple[str, ...]


def plots() -> Iterator[Plot]:
    """Every plot, in the page's order."""
    yield Plot("training loss", "epoch", ("train", "loss"))
    yield Plot("share of idle pairs", "epoch", ("train", "bad_pairs"))
    for direction, title in _TITLES.items():
        for figure in ("medR", "R@1", "R@5", "R@10"):
            yield Plot(f"{title}: {figure}", "epoch", ("validation", direction, figure))
    yield Plot("trunk trained", "epoch", ("trunk_trained",))
    yield Plot("gradient norm", "step", ("norm",))
    yield Plot("skipped steps", "epoch", ("skipped",))
    yield Plot("recall sum", "epoch", ("validation", "recall_sum"))
    yield Plot("loss on S", "epoch", ("train", "on_score"))
    yield Plot("loss on S_global", "epoch", ("train", "on_global"))
    yield Plot("loss on S_local", "epoch", ("train", "on_local"))
    yield Plot("learning rate", "step", ("lr",))
    yield Plot("seconds an epoch", "epoch", ("seconds",))


def write_curves(runs: Sequence[Path], page: Path | None = None) -> Path:
    """Write the page of one run into it, or of several, overlaid, to `page`.

    Args:
        runs: run directories; the first gives the place where `page` is None.
        page: where to write.
    """
    logs = {run.name: read_log(run) for run in runs}
    drawn = []
    for plot in plots():
        lines = {name: list(_points(log, plot)) for name, log in logs.items()}
        if any(lines.values()):
            drawn.append(_svg(plot.title, lines))
    names = ", ".join(logs)
    legend = "".join(
        f'<span style="color:{colour}">&#9632; {html.escape(name)}{_pairs(logs[name])}</span> '
        for name, colour in zip(logs, _colours(len(logs)), strict=True)
    )
    text = _PAGE.format(title=html.escape(names), legend=legend, plots="\n".join(drawn))
    target = page or runs[0] / CURVES
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, text.encode())
    return target


def _pairs(log: Sequence[dict[str, Any]]) -> str:
    """How many validation pairs recalls are of, where the log says."""
    for record in log:
        for one in record.get("validation", {}).values():
            if isinstance(one, dict) and "queries" in one:
                return f" (recalls of n = {one['queries']} pairs)"
    return ""


def _points(log: Sequence[dict[str, Any]], plot: Plot) -> Iterator[tuple[float, float]]:
    """Abscissa in epochs: whole ones, or the fraction that a step stands for."""
    last_step = {r["epoch"]: r["step"] for r in log if r["kind"] == "epoch"}
    for record in log:
        if record["kind"] != plot.kind:
            continue
        value: Any = record
        for key in plot.path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, int | float) and value == value and abs(value) != float("inf"):
            epoch, before = record["epoch"], last_step.get(record["epoch"] - 1, 0)
            end = last_step.get(epoch)
            within = (record["step"] - before) / (end - before) if end and end > before else 1.0
            yield epoch - 1 + within, float(value)


def _svg(title: str, lines: dict[str, Points]) -> str:
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    low, high = min(ys), max(ys)
    if low == high:
        low, high = low - 0.5, high + 0.5
    left, right = min(*xs, 0.0), max(*xs, 1.0)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT)
        down = TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return across, down

    parts = [f'<text x="{LEFT}" y="16" class="title">{html.escape(title)}</text>']
    for share in (0.0, 0.5, 1.0):
        value = low + share * (high - low)
        y = place(left, value)[1]
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 4}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for value in (left, right):
        x = place(value, low)[0]
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{value:g}</text>')
    for (name, points), colour in zip(lines.items(), _colours(len(lines)), strict=True):
        if not points:
            continue
        path = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in points)
        parts.append(f'<polyline points="{path}" stroke="{colour}"/>')
        for x, y in points if len(points) <= 100 else ():
            across, down = place(x, y)
            label = html.escape(f"{name}, epoch {x:g}: {y:g}")
            parts.append(
                f'<circle cx="{across:.1f}" cy="{down:.1f}" r="2.5" fill="{colour}">'
                f"<title>{label}</title></circle>"
            )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>'


def _colours(count: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); gap: 1em; }}
svg {{ width: 100%; border: 1px solid #ddd; }}
svg text {{ font: 10px system-ui, sans-serif; fill: #555; }}
svg .title {{ font-size: 12px; fill: #222; }}
svg line {{ stroke: #e5e5e5; }}
svg polyline {{ fill: none; stroke-width: 1.5; }}
</style></head><body>
<h1>{title}</h1>
<p>{legend} Abscissa: epochs.</p>
<main>
{plots}
</main></body></html>
"""
