"""Formats and reads numbers as people write them: "1 shard", "53.6 MB", "26 November 2026"."""

from __future__ import annotations

import re
from datetime import datetime

from ..errors import InputError

_BYTE_UNITS = ("bytes", "KB", "MB", "GB", "TB")


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 shard", "1,000 recipes".

    Args:
        count: the number.
        noun: in the singular.
        plural: None adds an s.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def readable_bytes(size: float) -> str:
    """Return a size in bytes with at most three digits: "53.6 MB" (1 MB is 1,000,000 bytes)."""
    amount, unit = float(size), 0
    while amount >= 999.5 and unit < len(_BYTE_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    digits = 0 if unit == 0 or amount >= 99.95 else 1
    return f"{amount:,.{digits}f} {_BYTE_UNITS[unit]}"


def readable_time(seconds: float) -> str:
    """Return a time stamp (seconds since 1970, UTC) as the local date and time."""
    moment = datetime.fromtimestamp(seconds).astimezone()
    return f"{moment.day} {moment:%B %Y, %H:%M}"


def parsed_bytes(text: str) -> float:
    """Return a number of bytes as a person writes it: `6k`, `1.4 KB`, `9,200`, `40GB`.

    Args:
        text: a number, then nothing, `k`, `M`, `G` or `T` (thousands), in any case, with or
            without a B.

    Raises:
        InputError: it is none.
    """
    # So many digits at most that the number is finite.
    match = re.fullmatch(r"([\d,]{0,14}\.?\d{1,9})\s*([kmgt]?)b?", text.strip(), re.IGNORECASE)
    if match is None:
        raise InputError(f"{text!r}: is no number of bytes; write 6k, 1.4 KB, 6000 or 40GB")
    power = " kmgt".index(match[2].lower() or " ")
    return float(match[1].replace(",", "")) * 1000.0**power
