"""Text as sites and recipe managers write it, made plain: tags, entities, invisible characters."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

# HTML's element names: what stands between < and > in a recipe ("core < 70 C, crust > 90 C",
# "x <y> z") is a tag only where a browser would know it as one.
_INLINE = frozenset(
    "a abbr acronym b bdi bdo big blink cite code del dfn em font i img input ins kbd label mark "
    "meta noscript q rp rt ruby s samp script small source span strike strong style sub sup svg "
    "time tt u var video wbr path".split()
)
_BLOCK = frozenset(
    "address article aside blockquote body br button canvas caption center dd details div dl dt "
    "fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 head header hr html iframe li main "
    "nav ol p pre section summary table tbody td tfoot th thead title tr ul".split()
)
# No < inside a tag: a text of a million "<a" is passed over once, not a million times.
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)(-[\w-]+)?(?:[\s/][^<>]*)?>|<!--[^<>]*-->")
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
_BULLET = re.compile(r"^[-\u2013\u2022*\u25a2\u25e6\u25aa\u00b7]\s+")
_SPACE = re.compile(r"\s+")
_LINE_END = re.compile(r"[\r\n\v\f\x85\u2028\u2029]+")
_BREAK = "\n"
_ESCAPED_LEVELS = 3
"""Times that a site escapes its text: &amp;amp;quot; is seen, more is not."""


def plain_text(text: str) -> str:
    """Return text on one line, without tags, entities and invisible characters."""
    return _one_line(_without_tags(_unescaped(text), block=" "))


def plain_lines(text: str) -> Iterator[str]:
    """Yield the lines of a text: at its line ends, and where a tag begins a new line."""
    for line in _LINE_END.split(_without_tags(_unescaped(text), block=_BREAK)):
        if plain := _one_line(line):
            yield plain


def marked_lines(text: str) -> Iterator[str]:
    """Yield the lines that tags make; a line end in the text is no more than a space in HTML."""
    for line in _without_tags(_LINE_END.sub(" ", _unescaped(text)), block=_BREAK).split(_BREAK):
        if plain := _one_line(line):
            yield plain


def _unescaped(text: str) -> str:
    """Replace entities (`&amp;`) by what they stand for, those that were escaped again too."""
    for _ in range(_ESCAPED_LEVELS):
        before, text = text, html.unescape(text)
        if text == before:
            break
    return text


def _without_tags(text: str, *, block: str) -> str:
    """Take tags out, and write `block` where one begins a new line."""

    def replaced(tag: re.Match[str]) -> str:
        name = (tag[2] or "").lower()
        if not name or name in _INLINE or tag[3]:
            return ""
        return block if name in _BLOCK else tag[0]

    return _TAG.sub(replaced, text)


def _one_line(text: str) -> str:
    """Return text on one line, without bullets, invisible characters and doubled brackets."""
    text = _SPACE.sub(" ", _INVISIBLE.sub("", text)).replace(" ,", ",").strip()
    text = _BULLET.sub("", text)
    # WordPress plugins put a note that has brackets of its own into another pair.
    if "((" in text and "))" in text:
        text = text.replace("((", "(").replace("))", ")")
    return text
