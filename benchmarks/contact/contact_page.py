"""The contact sheet as one HTML file, photos and all."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from hficma.artifacts.manifest import write_atomically

if TYPE_CHECKING:
    from .contact_rows import Card, Row, Sheet

LINES = 8
"""Ingredients of a recipe that are shown."""

STYLE = """
:root { --ink: #1d2321; --soft: #66706c; --line: #dfe4e1; --leaf: #0b6e4f; --paper: #fbfcfb; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 14px/1.4 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1400px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 1.6rem; margin: 0 0 4px; }
h2 { font-size: 1.25rem; margin: 36px 0 2px; }
p { margin: 0 0 14px; color: var(--soft); }
.row { display: grid; grid-template-columns: 216px 1fr; gap: 18px; padding: 16px 0;
  border-top: 1px solid var(--line); break-inside: avoid; }
.answers { display: grid; gap: 12px; grid-template-columns: repeat(var(--shown), minmax(0, 1fr)); }
.card { background: #fff; border: 1px solid var(--line); border-radius: 8px; overflow: hidden;
  display: flex; flex-direction: column; min-width: 0; }
.query { border-color: #b9c4be; background: #f3f6f4; }
.own { border: 2px solid var(--leaf); box-shadow: 0 0 0 3px #0b6e4f22; }
.card img, .frame { width: 100%; aspect-ratio: 1; object-fit: cover; display: block; }
.frame { background: #eef1ef; color: var(--soft); display: grid; place-items: center; }
.text { padding: 9px 11px 10px; display: flex; flex-direction: column; gap: 5px; flex: 1; }
.title { font-weight: 600; overflow-wrap: anywhere; line-height: 1.25; display: -webkit-box;
  -webkit-line-clamp: 2; -webkit-box-orient: vertical; overflow: hidden; }
ul { margin: 0; padding: 0; list-style: none; font-size: 12px; color: #3c4542; }
li { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
li.more, .foot { color: var(--soft); }
.foot { font-size: 12px; display: flex; justify-content: space-between;
  align-items: center; gap: 6px; font-variant-numeric: tabular-nums; }
.rank { font-weight: 600; color: var(--ink); }
.badge { background: var(--leaf); color: #fff; border-radius: 9px; padding: 1px 8px;
  font-weight: 600; }
.bar, .query .foot { margin-top: auto; }
.bar { height: 4px; flex: none; border-radius: 2px; background: #e6ebe8; }
.bar i { display: block; height: 100%; border-radius: 2px; background: #7fb6a0; }
.own .bar i { background: var(--leaf); }
@media (max-width: 900px) { .row { grid-template-columns: 1fr; }
  .answers { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); } }
"""


def write_page(sheets: Sequence[Sheet], path: Path) -> None:
    """Write the sheets of both directions as one page that needs no other file."""
    write_atomically(path, "\n".join(_page(sheets)).encode())


def standing(row: Row) -> str:
    """Where the query's own item stands."""
    if row.own_rank is not None:
        return f"its own: rank {row.own_rank:,}"
    behind = "not in this index" if row.scored == row.searched else f"not among {row.scored:,}"
    return f"its own: {behind}"


def shares(row: Row) -> list[float]:
    """How far each answer's score stands above the last one shown, 0.06 to 1, to be drawn."""
    scores = [card.score or 0.0 for card in row.answers]
    low, spread = min(scores, default=0.0), max(scores, default=0.0) - min(scores, default=0.0)
    return [0.06 + 0.94 * (score - low) / spread if spread else 1.0 for score in scores]


def _page(sheets: Sequence[Sheet]) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>Contact sheet</title><style>{STYLE}</style></head><body><main>"
    yield "<h1>Queries and their answers</h1>"
    yield (
        "<p>Best answers first, by S; bars compare the scores within a row. "
        "A green frame marks the item that belongs to the query.</p>"
    )
    for sheet in sheets:
        yield f"<h2>{escape(sheet.title)}</h2><p>{escape(sheet.summary)}.</p>"
        for row in sheet.rows:
            yield f'<div class="row" style="--shown: {len(row.answers)}">'
            yield from _card(row.query, "query", f"<span>{standing(row)}</span>")
            yield '<div class="answers">'
            for rank, (card, share) in enumerate(zip(row.answers, shares(row), strict=True), 1):
                badge = '<span class="badge">its own</span>' if card.own else ""
                bar = f'<div class="bar"><i style="width: {share:.0%}"></i></div>'
                foot = f'<span class="rank">{rank}</span>{badge}<span>{card.score:.3f}</span>'
                yield from _card(card, "own" if card.own else "", foot, bar)
            yield "</div></div>"
    yield "</main></body></html>"


def _card(card: Card, kind: str, foot: str, bar: str = "") -> Iterator[str]:
    yield f'<div class="card {kind}">'
    if card.photo is not None:
        content = base64.b64encode(card.photo).decode()
        yield f'<img alt="" src="data:image/jpeg;base64,{content}">'
    elif not card.ingredients:
        yield '<div class="frame">no photo here</div>'
    yield f'<div class="text"><div class="title">{escape(card.title)}</div>'
    if card.ingredients:
        lines = "".join(f"<li>{escape(line)}</li>" for line in card.ingredients[:LINES])
        left = len(card.ingredients) - LINES
        more = f'<li class="more">and {left} more</li>' if left > 0 else ""
        yield f"<ul>{lines}{more}</ul>"
    yield f'{bar}<div class="foot">{foot}</div></div></div>'
