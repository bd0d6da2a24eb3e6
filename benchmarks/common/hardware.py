"""What the machine can do: its matrix-product rate, its memory bandwidth, a server's memory."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from hficma.recipe import Recipe

from .costs import StageCost
from .report import Column, Figure, Row, Table
from .servers import Server
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
        self.recorder = Recorder()

    def measure(self) -> None:
        """Measure both rates, as one more round."""
        self.recorder.new_round()
        for _ in range(3):
            with self.recorder.timed("gemm"):
                torch.mm(self._left, self._left, out=self._product)
                self._wait()
            with self.recorder.timed("copy"):
                self._target.copy_(self._source)
                self._wait()

    @property
    def multiply_adds(self) -> float:
        """Multiply-adds a second of a float32 matrix product."""
        return float(self._size) ** 3 / self.recorder.median("gemm")

    @property
    def bandwidth(self) -> float:
        """Bytes a second that a copy reads and writes."""
        return 2.0 * COPIED_BYTES / self.recorder.median("copy")

    def share(self, cost: StageCost, seconds: float) -> float:
        """Return the time that a stage's cost takes at least, over the seconds that it took."""
        products = (cost.multiply_adds or 0.0) / self.multiply_adds
        return max(products, (cost.bytes or 0.0) / self.bandwidth) / seconds

    def _wait(self) -> None:
        if self._device.type != "cpu":
            torch.cuda.synchronize(self._device)


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
        what `Server.memory` gives at the end, `open_seconds`, and `first_answer_seconds` from the
        start of opening.
    """
    opening = {"threads": threads, "device": device}
    with tempfile.NamedTemporaryFile() as file:
        if isinstance(query, bytes):
            file.write(query)
            file.flush()
            query = Path(file.name)
        with Server(sys.executable, index, bundle, opening=opening) as server:
            seconds = [server.ask(query)["seconds"] for _ in range(21)]
            opened = server.opening_seconds
            times = {"open_seconds": opened, "first_answer_seconds": opened + seconds[0]}
            return server.memory() | times


def limits_table(limits: Limits) -> Table:
    """Return the machine's own rates."""
    rates = {
        "matrix product, G multiply-adds a second": ("gemm", limits.multiply_adds),
        "memory copy, GB a second": ("copy", limits.bandwidth),
    }
    rows = (
        Row(name=name, cells={"value": Figure(rate / 1e9, noise=limits.recorder.noise(task))})
        for name, (task, rate) in rates.items()
    )
    return Table(
        key="machine", title="What the machine can do", first="limit",
        columns=(Column("value", "value"),), rows=tuple(rows),
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
    rows = (
        Row(name=name, cells={"mb": Figure(amount, noise=MEMORY_NOISE)})
        for name, amount in amounts.items()
    )
    return Table(
        key="memory", title="Memory", first="process",
        columns=(Column("mb", "resident MB", better="lower", digits=0),), rows=tuple(rows),
        note="Serving: a process of its own that opens the index and answers 21 queries; its first "
        f"answer came after {served['first_answer_seconds']:.1f} s. Mapped files (the index, "
        "libraries) count as resident while they are in use, and the system may drop them.",
    )  # fmt: skip
