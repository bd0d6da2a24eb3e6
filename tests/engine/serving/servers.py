"""Servers in processes of their own, as a user starts them."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

START_SECONDS = 180.0
"""Seconds to wait for a server to be ready; an idle machine takes two, and five over Ray."""


class Server:
    """A running `hficma serve`.

    Args:
        process: of the server.
    """

    folder = Path()
    """Of the indexes that are this server's own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._read = threading.Thread(target=self._collect, daemon=True)
        self._read.start()
        self.url = self._address()

    def _collect(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())

    def _address(self) -> str:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            for line in self.lines:
                if match := re.search(r"serving at (\S+)", line):
                    return match[1]
            time.sleep(0.02)
        raise AssertionError("no server: " + " | ".join(self.lines))

    def logs(self, text: str) -> bool:
        """Whether its log has a text, or gets it soon: a line follows its answer."""
        until = time.monotonic() + 5
        while time.monotonic() < until:
            if any(text in line for line in self.lines):
                return True
            time.sleep(0.01)
        return False

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **options)  # type: ignore[arg-type]

    def stop(self) -> int:
        """End it as Ctrl-C does, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=40)
        self._read.join(timeout=5)
        return code


@contextlib.contextmanager
def running_server(*words: str | Path) -> Iterator[Server]:
    """Start a server on a free port for a block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hficma.cli", "serve", "--port", "0", "--threads", "1"]
        + [str(word) for word in words],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield (server := Server(process))
        server.stop()
    finally:
        process.kill()
        process.wait()
