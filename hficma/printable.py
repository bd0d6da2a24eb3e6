"""Escapes text from outside for a terminal, so that no control character acts.

Titles, file names and messages may hold anything: escape sequences that clear the screen or type a
command, marks that turn the reading direction around, half an emoji. Whatever a command prints goes
through one of these functions, or through `hficma.terminal.TextConsole`, which calls them.
"""

from __future__ import annotations

import json
import re
from typing import Any

# These characters act on a terminal or cannot be written to it: C0 and C1 controls and DEL; line
# and paragraph separators; marks that embed, override or isolate a direction (a title could
# otherwise show "gpj.exe" as "exe.jpg"); surrogates, which no stream can write.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_LINE_END = re.compile("(\n)")


def printable(text: str) -> str:
    r"""Return a text with every character that is not printable written as an escape (`\x1b`)."""
    return _UNPRINTABLE.sub(_escape, text)


def printable_lines(text: str) -> str:
    """Return a text with its line ends as they are, and the rest as `printable` returns it."""
    return "".join(part if part == "\n" else printable(part) for part in _LINE_END.split(text))


def one_line(text: str) -> str:
    """Return a message as one printable line; errors of libraries may have several."""
    return printable(" ".join(text.split("\n")))


def json_text(value: Any, *, indent: int | None = None) -> str:
    r"""Return a value as JSON that may be printed: what is not printable is written as `\u....`.

    Args:
        value: of JSON's types; any other is written as its `str`.
        indent: spaces a level; None writes one line.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    # json itself escapes what lies below space inside strings: only its own line ends are left.
    return "".join(
        part if part == "\n" else _UNPRINTABLE.sub(_json_escape, part)
        for part in _LINE_END.split(text)
    )


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(match[0])
    return named or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def _json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
