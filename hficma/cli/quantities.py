"""Formats numbers as people read them: "1 shard", "53.6 MB", "26 November 2026, 14:01"."""

from __future__ import annotations

from datetime import datetime

_BYTE_UNITS = ("bytes", "KB", "MB", "GB", "TB")


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 shard", "1,000 recipes".

    Args:
        count: the number.
        noun: in the singular.
        plural: None adds an s.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def readable_bytes(size: int) -> str:
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
