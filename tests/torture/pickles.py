"""Feeds the pickle reader programs of opcodes and damaged pickles, in children that may crash.

Each child tries a thousand programs of its seed: whatever is read can be touched, every key of what
passes is cheap to hash, and no program takes five seconds.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

FUZZ = Path(__file__).parents[1] / "untrusted" / "test_hostile_pickles.py"


def run(seconds: float, seed: int) -> dict[str, int]:
    """Try programs for `seconds`; return counts; `wrong` and `crashed` must be zero."""
    counts = {"programs": 0, "wrong": 0, "crashed": 0}
    chance = random.Random(seed)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", str(FUZZ), str(chance.getrandbits(32))],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            counts["programs"] += int(done.stdout)
        else:
            counts["crashed" if done.returncode < 0 else "wrong"] += 1
            print(done.stderr[-3000:], file=sys.stderr)
    return counts
