"""The code blocks and commands of the documentation, as its pages show them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LANGUAGES = {"sh", "python", "json", "html", "text", "yaml", "toml"}
"""What a fence may be marked as: one of another mark would be run by nobody."""

_FENCE = re.compile(r"^(`{3,})(.*)$")
_TITLE = re.compile(r'title="([^"]+)"')
_INLINE = re.compile(r"`(hficma [^`]+)`")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    page: str
    """Path from the root."""
    line: int
    """Of the block's first line, from 1."""
    language: str
    """What its fence is marked as."""
    title: str | None
    """What its fence is titled: a file's name, or `prints`."""
    text: str
    """Its content."""

    @property
    def place(self) -> str:
        """Where a reader finds it."""
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Return the paths of all pages, README and the project's own pages among them."""
    docs = sorted((ROOT / "docs").rglob("*.md"))
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
    return [str(path.relative_to(ROOT)) for path in (*top, *docs)]


def text_of(page: str) -> str:
    """Return a page's Markdown."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page, in order.

    Raises:
        ValueError: a fence is not closed, or marked as a language that nothing here runs.
    """
    opened: tuple[str, str, int] | None = None
    content: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                opened, content = (fence[1], fence[2].strip(), number + 1), []
        elif line == opened[0]:
            mark, _, rest = opened[1].partition(" ")
            if mark not in LANGUAGES:
                raise ValueError(f"{page}:{opened[2] - 1}: a fence marked {mark!r}")
            title = _TITLE.search(rest)
            yield Block(
                page=page, line=opened[2], language=mark, title=title and title[1],
                text="\n".join(content) + "\n",
            )  # fmt: skip
            opened = None
        else:
            content.append(line)
    if opened is not None:
        raise ValueError(f"{page}:{opened[2] - 1}: a fence that is not closed")


def prose(text: str) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)


def commands(block: Block) -> list[str]:
    """Return the commands of a shell block: continued lines joined, comments dropped."""
    joined = re.sub(r"\\\n\s*", "", block.text)
    lines = [re.sub(r"\s+#\s.*$", "", line).strip() for line in joined.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def inline_commands(text: str) -> list[str]:
    """Return the `hficma ...` commands that stand inside sentences."""
    return [found.replace("\n", " ") for found in _INLINE.findall(prose(text))]
