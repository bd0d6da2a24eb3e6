"""A served index and its load: wrk, which costs a fraction of a core where Python would take one.

wrk keeps a number of connections busy (closed loop). With a delay after each answer that is long
against the answer, requests come at a rate (open loop).
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hficma.artifacts.closing import Closing
from hficma.errors import ArtifactError, InputError

_SCRIPT = """
local bodies = {}
for path in io.lines("%(list)s") do
  local file = io.open(path, "rb"); bodies[#bodies + 1] = file:read("*a"); file:close()
end
local next = 0
wrk.headers["Content-Type"] = "image/png"
function request()
  next = next %% #bodies + 1
  return wrk.format("POST", "/search", nil, bodies[next])
end
%(delay)s
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('JSON{"seconds":%%f,"errors":%%d}\\n', summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.timeout))
end
"""


class Load(NamedTuple):
    """What a service did under a load."""

    throughput: float
    """Answers a second."""
    p50: float
    """Milliseconds, as the service measures them, of accepted requests."""
    p99: float
    """Like `p50`."""
    batch: float
    """Queries answered together, on average."""
    refused: int = 0
    """Requests that got 429."""
    errors: int = 0
    """Other statuses, and connections that failed."""


class ServedIndex(Closing):
    """`hficma serve` over one index, in a process.

    Args:
        index: that is served.
        threads: of its engine.
        folder: for scripts.
        photos: files that are asked with in turn.
    """

    def __init__(self, index: Path, *, threads: int, folder: Path, photos: Sequence[Path]) -> None:
        if shutil.which("wrk") is None:
            raise InputError("wrk: is not installed; it makes the load, and systems package it")
        self._listed, self._script = folder / "photos.txt", folder / "load.lua"
        self._listed.write_text("\n".join(map(str, photos)))
        start = time.perf_counter()
        words = ["--index", str(index), "--port", "0", "--threads", str(threads)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hficma.cli", "serve", *words],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._log: list[str] = []
        threading.Thread(target=self._read_log, daemon=True).start()
        self._url = self._address()
        urllib.request.urlopen(f"{self._url}/health/ready").close()
        self.start_seconds = time.perf_counter() - start
        """From the command to being ready."""

    def close(self) -> None:
        """End the service."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def _read_log(self) -> None:
        """Collect the lines that the service logs, until it ends."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._log.append(line)

    def _address(self) -> str:
        """Wait for the line that says where it listens, and return that address."""
        while self._process.poll() is None:
            if match := re.search(r"serving at (\S+)", "".join(self._log)):
                return match[1]
            time.sleep(0.005)
        raise ArtifactError(f"no service: {''.join(self._log)}")

    @property
    def peak_mb(self) -> float:
        """Return the most memory that the process has had, in MB, the index's pages included."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def under(self, clients: int, seconds: float, rate: float | None = None) -> Load:
        """Put the service under a load.

        Args:
            clients: connections.
            seconds: how long.
            rate: requests a second of all together; None asks anew when an answer has come.
        """
        # Spread evenly around the mean, so that connections do not ask in step.
        wait = "" if rate is None else f"math.random(0, {round(2000 * clients / rate)})"
        delay = f"function delay() return {wait} end" if wait else ""
        self._script.write_text(_SCRIPT % {"list": self._listed, "delay": delay})
        begin, before = len(self._log), self._counts()
        ended = subprocess.run(
            ["wrk", "-t1", f"-c{clients}", f"-d{round(seconds)}s", "--timeout", "60s",
             "-s", str(self._script), self._url],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        totals = json.loads(ended.stdout.partition("JSON")[2])
        matches = [re.search(r"POST /search (\d+) (\S+) ms", line) for line in self._log[begin:]]
        answered = [(match[1], float(match[2])) for match in matches if match]
        accepted = [ms for status, ms in answered if status == "200"]
        # 499: connections that wrk cuts when its time is over.
        others = sum(status not in ("200", "429", "499") for status, _ in answered)
        batches, queries, refused = (
            now - then for now, then in zip(self._counts(), before, strict=True)
        )
        p50, p99 = (float(np.percentile(accepted or [np.nan], part)) for part in (50, 99))
        return Load(
            throughput=len(accepted) / totals["seconds"], p50=p50, p99=p99,
            batch=queries / max(1.0, batches), refused=round(refused),
            errors=others + totals["errors"],
        )  # fmt: skip

    def _counts(self) -> list[float]:
        """Return batches run, queries answered in them and searches refused so far."""
        text = urllib.request.urlopen(f"{self._url}/metrics").read().decode()
        names = (
            'batch_size_count{lane="search"}', 'batch_size_sum{lane="search"}',
            'requests_total{path="/search",status="429"}',
        )  # fmt: skip
        values = [text.partition(f"hficma_{name} ")[2].split() for name in names]
        return [float(words[0]) if words else 0.0 for words in values]
