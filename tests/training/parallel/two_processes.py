"""Two processes that train together, as two GPUs of a machine would."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path

import torch

from hficma.training.parallel import distributed


def run_in_two(target: Callable[[int, Path], None], folder: Path, *, seconds: float) -> None:
    """Run `target(rank, folder)` in processes 0 and 1, joined, and see both end well in time."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=_run, args=(target, rank, port, folder)) for rank in (0, 1)]
    for process in started:
        process.start()
    for process in started:
        process.join(seconds)
        assert process.exitcode == 0


def _run(target: Callable[[int, Path], None], rank: int, port: int, folder: Path) -> None:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    distributed.start(torch.device("cpu"))
    target(rank, folder)
    torch.distributed.destroy_process_group()
