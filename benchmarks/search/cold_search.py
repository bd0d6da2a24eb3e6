"""`hficma bench cold-search`: what a search costs in a process that has just begun.

An index is opened and asked once in a fresh process: for the first time on this machine, where
its files are compared with their checksums, and again, where that is remembered; with the files'
pages in memory, and read from the disk; and then forty times more, warm. `--against PYTHON` names
the interpreter of another installation, of an older version, which is asked in turns, so that both
meet the same machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hficma.artifacts.file_memory import FILE
from hficma.artifacts.workspace import Workspace
from hficma.terminal import TextConsole

from ..common.synthetic_index import random_bundle, synthetic_index
from ..common.timing import Recorder, environment

# Runs in installations of any version since 0.1.0, so it keeps to what all of them have.
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
    folder = Workspace.default().cache / "bench"
    bundle = random_bundle(Workspace.default(), width=256, heads=8, backbone="tiny", global_dim=256)
    index = synthetic_index(
        bundle, folder / f"cold-{size}", size, level="tokens", precision="fp16", prefilter="SQfp16"
    )
    recorder = Recorder()
    for number in range(rounds):
        recorder.new_round()
        for way, (forget, drop) in WAYS.items():
            # In turns, and each goes first as often.
            for name in sorted(pythons, reverse=bool(number % 2)):
                home = folder / f"cold-home-{name.replace(' ', '-')}"
                if forget:
                    # What was checked: a file, and in older versions a folder.
                    (home / "cache" / FILE).unlink(missing_ok=True)
                    shutil.rmtree(home / "cache" / "verified", ignore_errors=True)
                _touch_pages(index, drop=drop)
                warm = "warm" if way == list(WAYS)[-1] else "cold"
                ended = subprocess.run(
                    [str(pythons[name]), "-P", "-c", _ASK, str(index), str(bundle), warm],
                    env={**os.environ, "HFICMA_HOME": str(home)},
                    stdout=subprocess.PIPE, text=True, check=True,
                )  # fmt: skip
                record: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
                recorder.add(f"{way} {name}", record["first"])
                if record["warm"] is not None:
                    recorder.add(f"warm {name}", record["warm"])
    console = TextConsole()
    console.print_line(f"{size:,} recipes, d = 256, tokens in fp16, SQfp16; medians of {rounds}, "
                       f"ms [least, most]; {environment()['processor']}")  # fmt: skip
    for way in [*WAYS, "warm"]:
        times = {name: 1000 * np.array(recorder.seconds(f"{way} {name}")) for name in pythons}
        cells = [
            f"{name} {np.median(ms):.1f} [{ms.min():.1f}, {ms.max():.1f}]"
            for name, ms in times.items()
        ]
        if len(cells) > 1:
            first, second = times.values()
            cells.append(f"difference {np.median(first - second):+.1f}")
        console.print_line(f"{way:36} {'   '.join(cells)}")


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


if __name__ == "__main__":
    typer.run(main)
