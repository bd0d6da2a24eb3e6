"""Damages the zoo's photos at random and reads them, in forks that may crash.

Each is upright RGB that `preprocess` takes, or one line; none takes longer than `SLOW` or kills
the process that reads it.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path

from hficma.errors import InputError
from hficma.images import ImageInput, decode_photo, preprocess
from tests.photo_zoo import write_zoo
from tests.torture.damage import damaged

SLOW = 40.0
"""Seconds, of a machine that does something else too, for what the slowest decoders may take."""
TOGETHER = 200


def run(seconds: float, seed: int) -> dict[str, int]:
    """Read for `seconds`; return counts; `wrong`, `crashed` and `hung` must be zero."""
    counts = {"read": 0, "refused": 0, "wrong": 0, "crashed": 0, "hung": 0}
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        write_zoo(Path(scratch))
        zoo = [path.read_bytes() for path in sorted(Path(scratch).rglob("*")) if path.is_file()]
    zoo = [content for content in zoo if 0 < len(content) < 1_000_000]
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        reader, writer = os.pipe()
        batch = chance.getrandbits(32)
        child = os.fork()
        if child == 0:
            os.close(reader)
            _read_many(zoo, batch, writer, ends)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as file:
            outcomes = file.read().split()
        for outcome in outcomes:
            counts[outcome] += 1
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            counts["crashed"] += 1
            print(f"batch {batch}: ended with {code} after {len(outcomes)} photos", flush=True)
    return counts


def _read_many(zoo: list[bytes], batch: int, writer: int, ends: float) -> None:
    chance = random.Random(batch)
    for number in range(TOGETHER):
        content = damaged(chance.choice(zoo), chance)
        began = time.monotonic()
        try:
            pixels = preprocess(decode_photo(content, name="damaged"), ImageInput())
            outcome = "read" if pixels.shape == (224, 224, 3) else "wrong"
        except InputError as error:
            outcome = "refused" if len(str(error).splitlines()) == 1 else "wrong"
        except BaseException as error:
            print(f"batch {batch}, photo {number}: {type(error).__name__}: {error}", flush=True)
            outcome = "wrong"
        if time.monotonic() - began > SLOW:
            outcome = "hung"
        os.write(writer, f"{outcome} ".encode())
        if time.monotonic() > ends:
            return
