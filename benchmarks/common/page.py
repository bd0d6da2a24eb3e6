"""A report as one HTML file: opens offline, and on a phone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from ..search.baselines import ENGINE
from ..search.stages import TOTAL
from .plots import bars_plot, choices_plot
from .report import Column, Figure, Report, Table, cell_text

STYLE = """
:root { --ink: #1d2321; --soft: #66706c; --line: #dfe4e1; --leaf: #0b6e4f; --paper: #fbfcfb; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 1.15rem; margin: 44px 0 8px; }
p { margin: 6px 0; max-width: 78ch; }
.soft { color: var(--soft); font-size: .875rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px;
  margin: 20px 0; }
.tile { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; }
.tile b { display: block; font-size: 1.65rem; line-height: 1.2; color: var(--leaf); }
.tile span { font-size: .85rem; color: var(--soft); }
.notes { background: #fff7e6; border-left: 4px solid #d99a1c; padding: 10px 14px; margin: 16px 0;
  font-size: .9rem; }
.notes p { margin: 2px 0; max-width: none; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
  gap: 16px; margin: 12px 0; }
.plots svg { width: 100%; max-width: 580px; height: auto; background: #fff;
  border: 1px solid var(--line); border-radius: 8px; padding: 8px; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; background: #fff;
  margin: 10px 0; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 7px 12px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); background: #f3f6f4; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; }
td:first-child { background: #fff; }
tr.whole td { font-weight: 600; background: #f6faf8; }
tr:last-child td { border-bottom: 0; }
td small { color: var(--soft); margin-left: 4px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; font-size: .875rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  main { padding: 18px 12px 40px; } h1 { font-size: 1.3rem; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 8px; } .tile { padding: 10px 12px; }
  .tile b { font-size: 1.3rem; } th, td { padding: 6px 8px; }
  td:first-child { white-space: normal; min-width: 8.5em; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: 6px; }
}
"""


def write_page(report: Report, path: Path) -> None:
    """Write a report as HTML."""
    path.write_text("\n".join(_page(report)), encoding="utf-8")


def _page(report: Report) -> Iterator[str]:
    environment = report.environment
    yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(report.title)}</title><style>{STYLE}</style></head><body><main>"
    yield f"<h1>{escape(report.title)}</h1>"
    yield (
        f'<p class="soft">hficma bench --setup {escape(str(report.options.get("setup")))} · '
        f"{escape(str(environment.get('processor')))} · threads: {environment.get('threads')} · "
        f"measured in {report.seconds / 60:.0f} min</p>"
    )
    yield '<div class="tiles">'
    for value, meaning in report.headline:
        yield f'<div class="tile"><b>{escape(value)}</b><span>{escape(meaning)}</span></div>'
    yield "</div>"
    if report.notes:
        yield '<div class="notes">'
        yield from (f"<p>{escape(note)}</p>" for note in report.notes)
        yield "</div>"
    for table in report.tables:
        yield f'<section id="{escape(table.key)}"><h2>{escape(table.title)}</h2>'
        if plots := _plots(table):
            yield f'<div class="plots">{"".join(plots)}</div>'
        yield from _table(table)
        yield f'<p class="soft">{escape(table.note)}</p></section>'
    yield (
        '<p class="soft">Small ± figures are noise: how far a second run may lie from this one, '
        "seen between the rounds of this run. ± beside a recall is its deviation over bags.</p>"
    )
    yield "<h2>How it was made</h2><dl>"
    yield from _facts(environment)
    yield from _facts(report.options)
    yield "</dl></main></body></html>"


def _plots(table: Table) -> list[str]:
    if table.key == "choices":
        return [
            choices_plot(table, "r10", "own recipe among the ten (R@10), %"),
            choices_plot(table, "agreement", "agreement with scoring everything, %"),
        ]
    if table.key.startswith("stages"):
        return [bars_plot(table, "p50", "median, ms")]
    if table.key == "others":
        return [
            bars_plot(table, "p50", "photo to ranked recipes, median ms"),
            bars_plot(table, "R@10", "R@10, image to recipe, %"),
        ]
    return []


def _table(table: Table) -> Iterator[str]:
    yield f'<div class="scroll"><table><thead><tr><th>{escape(table.first)}</th>'
    yield from (f"<th>{escape(column.label)}</th>" for column in table.columns)
    yield "</tr></thead><tbody>"
    for row in table.rows:
        cells = "".join(_cell(row.cells.get(column.key), column) for column in table.columns)
        whole = ' class="whole"' if row.name in (TOTAL, ENGINE) else ""
        yield f"<tr{whole}><td>{escape(row.name)}</td>{cells}</tr>"
    yield "</tbody></table></div>"


def _cell(figure: Figure | None, column: Column) -> str:
    noise = f"<small>±{figure.noise:.0%}</small>" if figure and figure.noise else ""
    return f"<td>{escape(cell_text(figure, column))}{noise}</td>"


def _facts(facts: Mapping[str, Any]) -> Iterator[str]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        elif isinstance(value, list | tuple):
            value = ", ".join(map(str, value))
        if value not in (None, ""):
            yield f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(str(value))}</dd>"
