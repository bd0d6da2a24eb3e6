"""What the machine can do: its matrix-product rate, its memory bandwidth, a server's memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from hficma.errors import ArtifactError
from hficma.recipe import Recipe

from .report import Column, Figure, Row, Table
from .timing import Recorder, peak_resident_mb

GEMM_SIZE = 1024
COPIED_BYTES = 256 * 2**20
"""Larger than the caches, so that memory is what is measured."""
MEMORY_NOISE = 0.1
"""Allocators and the page cache differ from run to run by about this."""


class Limits:
    """Measures the limits, a little in every round of a run.

    Args:
        device: where the benchmark runs.
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        # On a GPU a product of this size is over before the launch is.
        self._size = GEMM_SIZE if self._device.type == "cpu" else 8 * GEMM_SIZE
        self._left = torch.rand(self._size, self._size, device=self._device)
        self._product = torch.empty_like(self._left)
        self._source = torch.zeros(COPIED_BYTES // 4, device=self._device)
        self._target = torch.zeros_like(self._source)
        self._recorder = Recorder()

    def measure(self, repeats: int = 3) -> None:
        """Measure both rates, as one more round."""
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
        return float(self._size) ** 3 / self._recorder.median("gemm")

    @property
    def bandwidth(self) -> float:
        """Bytes a second that a copy reads and writes."""
        return 2.0 * COPIED_BYTES / self._recorder.median("copy")

    @property
    def noise(self) -> dict[str, float]:
        """Noise of both, as `Recorder.noise`."""
        return {name: self._recorder.noise(name) for name in ("gemm", "copy")}

    def _wait(self) -> None:
        if self._device.type != "cpu":
            torch.cuda.synchronize(self._device)


_SERVER = """
import json, sys, time
from pathlib import Path
from hficma.engine import Engine
from hficma.recipe import Recipe
index, bundle, threads, device, query = sys.argv[1:]
began = time.perf_counter()
with Engine.open(Path(index), bundle=Path(bundle), threads=int(threads), device=device) as engine:
    opened = time.perf_counter()
    if engine.query_role == "image":
        asked = {"image": Path(query)}
    else:
        asked = {"recipe": Recipe.parse(json.loads(Path(query).read_bytes()), where=query)}
    engine.search(**asked)
    first = time.perf_counter()
    for _ in range(20):
        engine.search(**asked)
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
    index: Path, bundle: Path, query: Path | bytes | Recipe, *, threads: int, device: str
) -> dict[str, float]:
    """Measure memory and start of a process that only serves.

    The benchmark's own peak would count torch and everything it compares with.

    Args:
        index: served.
        bundle: its model.
        query: a photo (a file, or its bytes) or a recipe; asked 21 times.
        threads: as `Engine.open`.
        device: as `Engine.open`.

    Returns:
        `peak_mb` resident, at the end `own_mb` and `mapped_mb` (files of the index and of
        libraries, which the system may drop), `open_seconds`, and `first_answer_seconds` from
        the start of opening.
    """
    if isinstance(query, Path):
        query = query.read_bytes()
    content = query if isinstance(query, bytes) else json.dumps(query.to_json()).encode()
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        done = subprocess.run(
            [sys.executable, "-c", _SERVER, *map(str, (index, bundle, threads, device, file.name))],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ArtifactError(f"{index}: a process of its own cannot serve it ({reason[0]})")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def limits_table(limits: Limits) -> Table:
    """Return the machine's own rates."""
    rates = {"gemm": limits.multiply_adds / 1e9, "copy": limits.bandwidth / 1e9}
    gemm, copy = (Figure(rate, noise=limits.noise[name]) for name, rate in rates.items())
    return _one_column(
        "machine", "What the machine can do", "limit", Column("value", "value"),
        {"matrix product, G multiply-adds a second": gemm, "memory copy, GB a second": copy},
        note="In float32, measured between the rounds of this run.",
    )  # fmt: skip


def memory_table(served: Mapping[str, float]) -> Table:
    """Return what `serving` measured, beside this process."""
    amounts = {
        "serving, at its peak": served["peak_mb"],
        "serving, at the end: its own": served["own_mb"],
        "serving, at the end: mapped files": served["mapped_mb"],
        "this benchmark, at its peak": peak_resident_mb(),
    }
    return _one_column(
        "memory", "Memory", "process", Column("mb", "resident MB", better="lower", digits=0),
        {name: Figure(value, noise=MEMORY_NOISE) for name, value in amounts.items()},
        note="Serving: a process of its own that opens the index and answers 21 queries; its first "
        f"answer came after {served['first_answer_seconds']:.1f} s. Mapped files (the index, "
        "libraries) count as resident while they are in use, and the system may drop them.",
    )  # fmt: skip


def _one_column(
    key: str, title: str, first: str, column: Column, figures: Mapping[str, Figure], note: str
) -> Table:
    rows = (Row(name=name, cells={column.key: figure}) for name, figure in figures.items())
    return Table(key=key, title=title, first=first, columns=(column,), rows=tuple(rows), note=note)
