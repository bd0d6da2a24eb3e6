"""What an index stores of each item where the user does not say: as much as pays, or as fits."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from hficma.errors import InputError

from ..index.item_encoding import (
    LEVELS,
    STORED_FORMS,
    EncodingPrecision,
    Level,
    bytes_per_token,
)

TABLES_SHARE = 1 / 8
"""Tables are stored while they fit into this share of memory: the page cache then holds them."""
PROJECTIONS_SHARE = 1 / 4
"""Likewise projections; past it, tokens are read and the rest computed."""
GIB = 2**30
ASSUMED_MEMORY = 8 * GIB
"""Where the system does not say how much it has, as Windows does not by the standard library."""
DISK_SHARE = 1 / 4
"""No level takes more than this share of the free disk, unless asked for."""

SHORT_PRECISIONS: tuple[EncodingPrecision, ...] = ("int8", "int4")
"""Those of tokens that exact ones may stand beside."""

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


def check_form(level: Level | None, precision: EncodingPrecision, *, exact_tokens: bool) -> None:
    """Refuse a level and a precision that an index cannot store together.

    Args:
        level: of the encodings; None where it is still to be chosen.
        precision: of the wide arrays.
        exact_tokens: whether float16 tokens stand beside them.

    Raises:
        InputError: they cannot.
    """
    if level is not None and (level, precision) not in STORED_FORMS:
        raise InputError(f"{level} in {precision}: only tokens can be stored so; take int8")
    if exact_tokens and (level not in (None, "tokens") or precision not in SHORT_PRECISIONS):
        raise InputError(
            f"exact tokens: they are kept beside tokens in {' or '.join(SHORT_PRECISIONS)}, "
            f"not beside {level or 'tokens'} in {precision}"
        )


def form_within(
    budget: float,
    tokens: float,
    *,
    width: int,
    heads: int,
    level: Level | None,
    precision: EncodingPrecision | None,
    exact_tokens: bool,
) -> tuple[Level, EncodingPrecision]:
    """Return what fits a budget: the highest level, and at that level the most exact precision.

    Args:
        budget: bytes an item, without its global vectors and its record.
        tokens: of an item, on average.
        width: D.
        heads: H.
        level: that it shall be; None takes any.
        precision: that it shall be; None takes any.
        exact_tokens: whether float16 tokens are to fit too.

    Raises:
        InputError: nothing fits.
    """
    smallest = float("inf")
    for form in STORED_FORMS:
        if exact_tokens and (form[0] != "tokens" or form[1] not in SHORT_PRECISIONS):
            continue
        if level not in (None, form[0]) or precision not in (None, form[1]):
            continue
        size = tokens * bytes_per_token(*form, width, heads)
        size += 4 * width * ("mean" in LEVELS[form[0]])
        if exact_tokens:
            size += tokens * bytes_per_token("tokens", "fp16", width, heads)
        if size <= budget:
            return form
        smallest = min(smallest, size)
    raise InputError(
        f"{budget:,.0f} bytes an item: at {tokens:.1f} tokens each, no less than {smallest:,.0f} "
        "can be stored; give that much, or a model of smaller width"
    )


def _memory() -> int:
    """Return the bytes of the machine's memory."""
    if not hasattr(os, "sysconf"):
        return ASSUMED_MEMORY
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
