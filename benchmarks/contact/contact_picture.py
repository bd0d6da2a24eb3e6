"""The contact sheet as a picture, drawn without a browser."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image as Images
from PIL import ImageDraw, ImageFont

from hficma.artifacts.manifest import write_atomically
from hficma.errors import MissingDependencyError

from .contact_page import shares, standing

if TYPE_CHECKING:
    from PIL.Image import Image

    from .contact_rows import Card, Sheet

CARD = 200
"""Pixels that a card is wide; its photo is as high."""
GAP = 14
MARGIN = 28
LINE = 17
LINES = 9
"""Ingredients of a recipe that are shown."""
INK, SOFT, FRAME, LEAF, PAPER = "#1d2321", "#66706c", "#dfe4e1", "#0b6e4f", "#fbfcfb"


def write_picture(sheets: Sequence[Sheet], path: Path) -> None:
    """Draw the sheets of both directions below each other, as PNG."""
    shown = max((len(row.answers) for sheet in sheets for row in sheet.rows), default=0)
    width = 2 * MARGIN + (shown + 1) * (CARD + GAP) + GAP
    row_height = CARD + 4 * LINE + 2 * GAP
    height = 2 * MARGIN + sum(70 + len(sheet.rows) * (row_height + GAP) for sheet in sheets)
    picture = Images.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(picture)
    top = MARGIN
    for sheet in sheets:
        draw.text((MARGIN, top), sheet.title, INK, _font(24))
        draw.text((MARGIN, top + 34), sheet.summary, SOFT, _font(14))
        top += 70
        for row in sheet.rows:
            _card(picture, draw, (MARGIN, top), row_height, row.query, standing(row), None)
            for place, (card, share) in enumerate(zip(row.answers, shares(row), strict=True)):
                left = MARGIN + 2 * GAP + (place + 1) * (CARD + GAP)
                foot = f"{place + 1}    {card.score:.3f}" + ("    its own" if card.own else "")
                _card(picture, draw, (left, top), row_height, card, foot, share)
            top += row_height + GAP
    content = BytesIO()
    picture.save(content, "png", optimize=True)
    write_atomically(path, content.getvalue())


def _card(
    picture: Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    height: int,
    card: Card,
    foot: str,
    share: float | None,
) -> None:
    left, top = corner
    outline = LEAF if card.own else FRAME
    fill = "#f3f6f4" if share is None else "#ffffff"
    box = (left, top, left + CARD, top + height)
    draw.rounded_rectangle(box, 7, fill, outline, 3 if card.own else 1)
    text = top + GAP // 2
    if card.photo is not None or not card.ingredients:
        inner = CARD - 8
        if card.photo is not None:
            with Images.open(BytesIO(card.photo)) as photo:
                picture.paste(photo.resize((inner, inner)), (left + 4, top + 4))
        else:
            draw.rectangle((left + 4, top + 4, left + 4 + inner, top + 4 + inner), "#eef1ef")
        text = top + CARD + 2
    for line in _wrapped(draw, card.title, 14, 2):
        draw.text((left + 10, text), line, INK, _font(14))
        text += LINE + 2
    text += 4
    for line in card.ingredients[:LINES]:
        short = _wrapped(draw, line, 11, 1)
        draw.text((left + 10, text), short[0] if short else "", "#3c4542", _font(11))
        text += LINE
    if len(card.ingredients) > LINES:
        more = f"and {len(card.ingredients) - LINES} more"
        draw.text((left + 10, text), more, SOFT, _font(11))
    bottom = top + height - LINE - 8
    if share is not None:
        draw.rectangle((left + 10, bottom - 6, left + CARD - 10, bottom - 3), "#e6ebe8")
        end = left + 10 + share * (CARD - 20)
        draw.rectangle((left + 10, bottom - 6, end, bottom - 3), LEAF if card.own else "#7fb6a0")
    draw.text((left + 10, bottom), foot, LEAF if card.own else SOFT, _font(12))


def _wrapped(draw: ImageDraw.ImageDraw, text: str, size: int, most: int) -> list[str]:
    """A text in at most so many lines of a card's width, cut with an ellipsis."""
    font, room = _font(size), CARD - 20

    def fits(line: str) -> bool:
        return draw.textlength(line, font) <= room

    lines: list[str] = []
    for word in text.split():
        if lines and fits(f"{lines[-1]} {word}"):
            lines[-1] = f"{lines[-1]} {word}"
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], " ".join(lines[most - 1 :])]
    for number, line in enumerate(lines):
        if not fits(line):
            while line and not fits(f"{line}…"):
                line = line[:-1]
            lines[number] = f"{line}…"
    return lines


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: Pillow's own font has no fractions or accents."""
    try:
        from matplotlib import get_data_path
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "report", "drawing a contact sheet") from error
    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
