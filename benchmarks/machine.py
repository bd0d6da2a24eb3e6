"""What the machine can do: its matrix-product rate, its memory bandwidth, a server's memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from hficma.benchmarks.measure import Recorder
from hficma.errors import ArtifactError

GEMM_SIZE = 1024
COPIED_BYTES = 256 * 2**20
"""Larger than the caches, so that memory is what is measured."""


class Limits:
    """Measures the limits, a little in every round of a run.

    Args:
        threads: cores that the benchmark uses.
        device: where the benchmark runs.
    """

    def __init__(self, threads: int, device: str) -> None:
        torch.set_num_threads(threads)
        self._device = torch.device(device)
        # On a GPU a product of this size is over before the launch is.
        self._size = GEMM_SIZE if self._device.type == "cpu" else 8 * GEMM_SIZE
        self._left = torch.rand(self._size, self._size, device=self._device)
        self._product = torch.empty_like(self._left)
        self._source = torch.zeros(COPIED_BYTES // 4, device=self._device)
        self._target = torch.zeros_like(self._source)
        self._recorder = Recorder()

    def measure(self, repeats: int = 3) -> None:
        """One round of both."""
        self._recorder.new_round()
        for _ in range(repeats):
            with self._recorder.timed("gemm"):
                torch.mm(self._left, self._left, out=self._product)
                self._wait()
            with self._recorder.timed("copy"):
                self._target.copy_(self._source)
                self._wait()

    @property
    def multiply_adds(self) -> float:
        """Multiply-adds a second of a float32 matrix product."""
        return float(self._size) ** 3 / self._recorder.percentile("gemm", 50)

    @property
    def bandwidth(self) -> float:
        """Bytes a second that a copy reads and writes."""
        return 2.0 * COPIED_BYTES / self._recorder.percentile("copy", 50)

    @property
    def noise(self) -> dict[str, float]:
        """Of both, as `Recorder.noise`."""
        return {name: self._recorder.noise(name, 50) for name in ("gemm", "copy")}

    def _wait(self) -> None:
        if self._device.type != "cpu":
            torch.cuda.synchronize(self._device)


_SERVER = """
import json, sys, time
from pathlib import Path
from hficma.engine import Engine
index, bundle, threads, device, query = sys.argv[1:]
began = time.perf_counter()
with Engine.open(Path(index), bundle=Path(bundle), threads=int(threads), device=device) as engine:
    opened = time.perf_counter()
    if engine.query_role == "image":
        engine.search(image=Path(query))
        first = time.perf_counter()
        for _ in range(20):
            engine.search(image=Path(query))
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
kilobytes = {name: int(status[name].split()[0]) for name in ("VmHWM", "RssAnon", "RssFile")}
print(json.dumps({
    "peak_mb": kilobytes["VmHWM"] / 1024,
    "own_mb": kilobytes["RssAnon"] / 1024,
    "mapped_mb": kilobytes["RssFile"] / 1024,
    "open_seconds": opened - began,
    "first_answer_seconds": first - began,
}))
"""


def serving(
    index: Path, bundle: Path, photo: Path, *, threads: int, device: str
) -> dict[str, float]:
    """Memory and start of a process that only serves.

    The benchmark's own peak would count torch and everything it compares with.

    Args:
        index: of recipes.
        bundle: its model.
        photo: a query.
        threads: as `Engine.open`.
        device: as `Engine.open`.

    Returns:
        `peak_mb` resident, at the end `own_mb` and `mapped_mb` (files of the index and of
        libraries, which the system may drop), seconds to open and to the first answer, and the
        process's whole `wall_seconds`.
    """
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _SERVER, *map(str, (index, bundle, threads, device, photo))],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ArtifactError(f"{index}: a process of its own cannot serve it ({reason[0]})")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures | {"wall_seconds": time.perf_counter() - began}
