"""Run every trial for its share of the time: `python -m tests.torture --seconds 1200 --seed 0`.

Each trial attacks one promise at random and counts what happened. A count named in `FORBIDDEN`
that is not zero, or an AssertionError of a trial, ends in exit code 1 with the seed to repeat it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence

SHARES = {
    "writers": 3,
    "commands": 3,
    "flips": 3,
    "edits": 2,
    "changes": 2,
    "photos": 2,
    "pickles": 2,
    "pages": 1,
}
"""Trial to its share of the time."""
FORBIDDEN = ("wrong", "lost", "left behind", "crashed", "other", "hung")
"""Beginnings of counts that must be zero."""


def main() -> int:
    """Run the trials and print their counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("SECONDS", "1200")))
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("trials", nargs="*", default=list(SHARES), metavar="TRIAL")
    options = parser.parse_args()
    with _quiet():
        return _run(options.trials, options.seconds, options.seed)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings for a block: trials cause thousands, decoders and exporters have many."""
    log = logging.getLogger("hficma")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _run(trials: Sequence[str], seconds: float, seed: int) -> int:
    """Run some trials for so many seconds in all; return the exit code."""
    shares = {name: SHARES[name] for name in trials}
    failed = []
    print(f"seed {seed}, {seconds:.0f} s", flush=True)
    for name, share in shares.items():
        trial = importlib.import_module(f"tests.torture.{name}")
        began = time.monotonic()
        try:
            counts = trial.run(seconds * share / sum(shares.values()), seed)
            bad = {key: n for key, n in counts.items() if n and key.startswith(FORBIDDEN)}
        except AssertionError:
            traceback.print_exc()
            counts, bad = {}, {"an assertion": 1}
        told = ", ".join(f"{count:,} {what}" for what, count in counts.items())
        verdict = f"FAILED ({', '.join(bad)})" if bad else "clean"
        print(f"{name:9} {verdict}: {told} ({time.monotonic() - began:.0f} s)", flush=True)
        failed += [name] * bool(bad)
    if failed:
        again = f"python -m tests.torture --seconds {seconds:.0f} --seed {seed}"
        print(f"failed: {', '.join(failed)}; again: {again} {' '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
