"""The contact sheet as a picture, drawn without a browser."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from textwrap import shorten, wrap
from typing import TYPE_CHECKING, Any

from PIL import Image

from hficma.artifacts.manifest import write_atomically

from ..common.plots import COLOURS, blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .sheet import Card, Sheet

INCHES = 1.9
"""Of a card's width."""
LINES = 7
"""Ingredients of a recipe that are shown."""
OWN, OTHER = COLOURS[0], "#dfe4e1"
"""Frames of the query's own item, and of the others."""
QUERY = "#eef3f0"
"""Paper of a recipe that is asked for."""


def write_picture(sheets: Sequence[Sheet], path: Path) -> None:
    """Draw the sheets of both directions below each other, as PNG."""
    columns = 1 + max(len(row.answers) for sheet in sheets for row in sheet.rows)
    heights = [1.45 * INCHES * len(sheet.rows) for sheet in sheets]
    canvas = blank_figure(INCHES * columns, sum(heights))
    parts = canvas.subfigures(len(sheets), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, sheet in zip(parts, sheets, strict=True):
        part.suptitle(f"{sheet.title}: {sheet.summary}", fontsize=9)
        grid = part.subplots(len(sheet.rows), columns, squeeze=False)
        for axes, row in zip(grid, sheet.rows, strict=True):
            _draw(axes[0], row.query, row.standing)
            axes[0].set_facecolor(QUERY)
            for rank, answer in enumerate(row.answers, start=1):
                _draw(axes[rank], answer, f"{rank}    {answer.score:.3f}")
            for empty in axes[1 + len(row.answers) :]:
                empty.axis("off")
    content = BytesIO()
    canvas.savefig(content, format="png", dpi=120)
    write_atomically(path, content.getvalue())


def _draw(axes: Axes, card: Card, foot: str) -> None:
    """Draw a card: its photo or its ingredients, the title above and a line below."""
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1), aspect="equal")
    # A title may hold a dollar sign, which would begin a formula.
    words: dict[str, Any] = {"parse_math": False, "fontsize": 7}
    title = wrap(card.title, 28, max_lines=2, placeholder="…")
    axes.set_title("\n".join(title), **words)
    axes.set_xlabel(foot, fontsize=7, color=OWN if card.own else "#66706c")
    axes.spines[:].set(color=OWN if card.own else OTHER, linewidth=2.5 if card.own else 1)
    if card.photo is not None:
        with Image.open(BytesIO(card.photo)) as photo:
            # A recipe with a photo has it in the upper half, its lines below.
            axes.imshow(photo, extent=(0.25, 0.75, 0.5, 1) if card.ingredients else (0, 1, 0, 1))
            axes.set(xlim=(0, 1), ylim=(0, 1))  # which imshow sets to the photo's
        if not card.ingredients:
            return
    most = LINES if card.photo is None else LINES // 2 + 1
    lines = [shorten(line, 30, placeholder="…") for line in card.ingredients[:most]]
    if len(card.ingredients) > most:
        lines.append(f"and {len(card.ingredients) - most} more")
    top = 0.95 if card.photo is None else 0.46
    axes.text(0.05, top, "\n".join(lines) or "no photo here", va="top", **words)
