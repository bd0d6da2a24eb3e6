"""Text split into words and sentences, in any script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?|\d+(?:[./]\d+)?")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")


def words(text: str) -> list[str]:
    """Split text into lower-case words and numbers, in any script."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def sentences(instructions: Iterable[str]) -> list[str]:
    """Split instructions at sentence ends, keeping their order."""
    parts = (part.strip() for text in instructions for part in _SENTENCE_END.split(text))
    return [part for part in parts if part]
