"""`hficma bench cold-search`: what a search costs in a process that has just begun.

An index is opened and asked once in a fresh process: for the first time on this machine, where
its files are compared with their checksums, and again, where that is remembered; with the files'
pages in memory, and read from the disk; and then forty times more, warm. `--against PYTHON` names
the interpreter of another installation, of an older version, which writes an index of its own and
is asked in turns, so that both meet the same machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hficma.artifacts.file_memory import FILE
from hficma.artifacts.workspace import Workspace
from hficma.terminal import TextConsole

from ..common.timing import environment

# Both run in installations of any version since 0.1.0, so they keep to what all of them have; only
# where the index's writer stands has changed.
_WRITE = """
import sys; from pathlib import Path
home, size = Path(sys.argv[1]), int(sys.argv[2])
sizes = {"width": 256, "heads": 8, "backbone": "tiny", "global_dim": 256}
stored = {"prefilter": "SQfp16"}
try:
    from hficma.artifacts.workspace import Workspace
    from hficma.benchmarks.common.synthetic_index import random_bundle, synthetic_index
    stored |= {"level": "tokens", "precision": "fp16"}
except ImportError:
    from hficma.benchmarks.drawn import drawn_index as synthetic_index, random_bundle
    from hficma.workspace import Workspace
    stored |= {"keep": "tokens", "side_precision": "fp16"}
bundle = random_bundle(Workspace(home), **sizes)
synthetic_index(bundle, home / "index", size, **stored)
print(bundle)
"""
_ASK = """
import json, resource, sys, time
import numpy as np; from pathlib import Path; from PIL import Image
began = time.perf_counter()
from hficma.engine import Engine
rng = np.random.default_rng(0)
photos = [Image.fromarray(rng.integers(0, 255, (300, 300, 3), dtype=np.uint8)) for _ in range(40)]
imported = time.perf_counter()
with Engine.open(Path(sys.argv[1]), bundle=Path(sys.argv[2]), runtime="onnxruntime") as engine:
    engine.search(image=photos[0])
    first = time.perf_counter()
    warm = [0.0] * (40 if sys.argv[3] == "warm" else 0)
    for number in range(len(warm)):
        start = time.perf_counter(); engine.search(image=photos[number])
        warm[number] = time.perf_counter() - start
print(json.dumps({"first": first - imported, "import": imported - began,
                  "warm": float(np.median(warm)) if warm else None}))
"""
WAYS = {
    "first on the machine, from the disk": (True, True),
    "first on the machine, in memory": (True, False),
    "again, from the disk": (False, True),
    "again, in memory": (False, False),
}
"""What is asked, to whether the machine forgets what it checked, and its pages."""


def main(
    size: Annotated[
        int, typer.Option(min=1000, help="Recipes in the index, which is random.")
    ] = 100_000,
    rounds: Annotated[int, typer.Option(min=1, help="Of each way, in turns.")] = 7,
    against: Annotated[
        Path | None, typer.Option(help="The python of another installation.")
    ] = None,
) -> None:
    """Ask an index of random recipes in fresh processes, and print medians in milliseconds."""
    pythons = {"this version": Path(sys.executable)}
    if against is not None:
        pythons["the other"] = against
    homes = {name: Workspace.default().cache / "bench" / f"cold-{size}-{name.replace(' ', '-')}"
             for name in pythons}  # fmt: skip
    bundles = {name: _run(python, homes[name], _WRITE, homes[name], size)
               for name, python in pythons.items()}  # fmt: skip
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        for way, (forget, drop) in WAYS.items():
            # In turns, and each goes first as often.
            for name in sorted(pythons, reverse=bool(number % 2)):
                home = homes[name]
                if forget:
                    (home / "cache" / FILE).unlink(missing_ok=True)
                _touch_pages(home / "index", drop=drop)
                warm = "warm" if way == list(WAYS)[-1] else "cold"
                index = home / "index"
                output = _run(pythons[name], home, _ASK, index, bundles[name], warm)
                record: dict[str, Any] = json.loads(output)
                times.setdefault((way, name), []).append(record["first"])
                if record["warm"] is not None:
                    times.setdefault(("warm", name), []).append(record["warm"])
    _print(times, list(pythons), size, rounds)


def _run(python: Path, home: Path, code: str, *words: object) -> str:
    """Run code in an installation's own workspace; return the last line that it prints."""
    ended = subprocess.run(
        [str(python), "-P", "-c", code, *map(str, words)],
        env={**os.environ, "HFICMA_HOME": str(home)},
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return ended.stdout.strip().splitlines()[-1]


def _touch_pages(folder: Path, *, drop: bool) -> None:
    """Drop an index's pages from memory, or bring them there."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                if drop:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                else:
                    while file.read(1 << 24):
                        pass


def _print(
    times: dict[tuple[str, str], list[float]], names: list[str], size: int, rounds: int
) -> None:
    console = TextConsole()
    facts = environment()
    console.print_line(f"{size:,} recipes, d = 256, tokens in fp16, SQfp16; medians of {rounds}, "
                       f"ms [least, most]; {facts.get('processor')}")  # fmt: skip
    for way in [*WAYS, "warm"]:
        cells = []
        for name in names:
            taken = 1000 * np.array(times[way, name])
            cells.append(f"{name} {np.median(taken):.1f} [{taken.min():.1f}, {taken.max():.1f}]")
        if len(names) > 1:
            first, second = (np.array(times[way, name]) for name in names)
            pairs = 1000 * (first - second)
            cells.append(f"difference {np.median(pairs):+.1f}")
        console.print_line(f"{way:36} {'   '.join(cells)}")


if __name__ == "__main__":
    typer.run(main)
