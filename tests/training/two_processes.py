"""Two processes that train together, as two GPUs of a machine would."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable
from pathlib import Path


def run_in_two(target: Callable[[int, int, str], None], folder: Path, *, seconds: float) -> None:
    """Run `target(rank, port, folder)` as rank 0 and 1, and see both end well in time."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=target, args=(rank, port, str(folder))) for rank in (0, 1)]
    for process in started:
        process.start()
    for process in started:
        process.join(seconds)
        assert process.exitcode == 0
