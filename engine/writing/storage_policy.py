"""What an index stores of each item where the user does not say: as much as pays."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from ..index.item_encoding import LEVELS, EncodingPrecision, Level, bytes_per_token

TABLES_SHARE = 1 / 8
"""Tables are stored while they fit into this share of memory: the page cache then holds them."""
PROJECTIONS_SHARE = 1 / 4
"""Likewise projections; past it, tokens are read and the rest computed."""
GIB = 2**30
ASSUMED_MEMORY = 8 * GIB
"""Where the system does not say how much it has, as Windows does not by the standard library."""
DISK_SHARE = 1 / 4
"""No level takes more than this share of the free disk, unless asked for."""

_log = logging.getLogger("hficma")


def default_level(
    tokens: float, precision: EncodingPrecision, *, width: int, heads: int, folder: Path
) -> Level:
    """Return the highest level that fits memory and the free disk; a lower one is logged.

    Args:
        tokens: of all items.
        precision: in which the wide arrays are stored.
        width: D.
        heads: H.
        folder: an existing one on the disk that will hold the index.
    """
    memory = _memory()
    disk = shutil.disk_usage(folder).free * DISK_SHARE
    shares: dict[Level, float] = {"tables": TABLES_SHARE, "projections": PROJECTIONS_SHARE}
    for level in reversed(LEVELS):
        size = tokens * bytes_per_token(level, precision, width, heads)
        if level == "tokens" or size <= min(disk, memory * shares[level]):
            return level
        _log.info(
            "the index stores no %s: they would take %.1f GiB, of %.1f GiB of memory and %.1f GiB "
            "of free disk", level, size / GIB, memory / GIB, disk / DISK_SHARE / GIB,
        )  # fmt: skip
    raise AssertionError("tokens fit always")


def _memory() -> int:
    """Return the bytes of the machine's memory."""
    if not hasattr(os, "sysconf"):
        return ASSUMED_MEMORY
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
