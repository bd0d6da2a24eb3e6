"""Ways in which bytes come to be damaged, and in which someone damages them on purpose."""

from __future__ import annotations

import random
from typing import Any

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
"""Sizes and counts at which parsers go wrong."""

NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 2**31, 2**63, 10**30, -(10**12), 0.5, 1e308, float("nan"),
    float("inf"), "", "x", "|O", "<i4", ">f4", "..", "../../etc/passwd", "/etc/passwd",
    "a/../../b", "a\x00b", "\ud800", [], [1], [[[]]], ["x"], {}, {"x": 1}, [1] * 1000, "9" * 5000,
)  # fmt: skip
"""What a value becomes: wrong types, sizes, signs, names that lead out, numbers that are none."""


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return the bytes with one to four changes: flips, cuts, repeats, numbers, foreign parts."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        # Headers are where parsers take their decisions: half of the changes go there.
        if chance.random() < 0.5:
            at = min(at, chance.randrange(512))
        stop = min(len(changed), at + chance.choice((1, 2, 4, 64, 4096)))
        way = chance.randrange(6)
        if way == 0 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif way == 1:
            del changed[at:]
        elif way == 2:
            del changed[at:stop]
        elif way == 3:
            changed[at:at] = changed[at:stop] * chance.choice((1, 2, 50))
        elif way == 4:
            size = chance.choice((1, 2, 4))
            number = chance.choice(NUMBERS) % (1 << 8 * size)
            changed[at : at + size] = number.to_bytes(size, chance.choice(("little", "big")))
        else:
            start = chance.randrange(len(content))
            changed[at:stop] = content[start : start + stop - at]
    return bytes(changed)
