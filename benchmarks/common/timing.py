"""How every benchmark measures: interleaved repetitions, medians with their spread, the machine."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from hficma.engine.runtimes.options import processors

REGIONS = 49
"""R: regions of a photo."""
NOT_SAID = ("--json", "--out", "--home", "--plot", "--png", "--only", "--cache")
"""Options that only say where to write, or which part of a file of figures is made this time."""
NOISY = 0.15
"""A spread (interquartile range over median) beyond this is called noisy."""


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads inside the block; the number is the whole process's."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Timing:
    """Seconds of one thing that was measured several times."""

    seconds: tuple[float, ...]
    """Each repetition, in the order measured."""

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Interquartile range over the median."""
        low, high = np.percentile(self.seconds, [25, 75])
        return float(high - low) / self.median

    def percentile(self, share: float) -> float:
        """Seconds within which `share` per cent of the repetitions ended."""
        return float(np.percentile(self.seconds, share))


def interleaved(
    tasks: Mapping[str, Callable[[], object]], *, repeats: int = 7, warmup: int = 1
) -> dict[str, Timing]:
    """Time tasks in turn, A B C A B C ..., so that a drift of the machine meets all of them."""
    for task in tasks.values():
        for _ in range(warmup):
            task()
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


class Recorder:
    """Seconds of named tasks in rounds that are spread over a run.

    A round's median meets the machine as it was then, so the range of the rounds' medians says
    how far a second run may lie from this one; the spread within a round does not.
    """

    def __init__(self) -> None:
        self._rounds: list[dict[str, list[float]]] = []

    def new_round(self) -> None:
        """What is timed from now on belongs to another round."""
        self._rounds.append({})

    def add(self, name: str, seconds: float) -> None:
        """Count one repetition."""
        self._rounds[-1].setdefault(name, []).append(seconds)

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Time a block as one repetition."""
        start = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - start)

    def names(self) -> list[str]:
        """Tasks, in the order first seen."""
        return list(dict.fromkeys(name for part in self._rounds for name in part))

    def seconds(self, name: str) -> list[float]:
        """All repetitions of a task."""
        return [second for part in self._rounds for second in part.get(name, ())]

    def percentile(self, name: str, share: float) -> float:
        """Seconds within which `share` per cent of the repetitions ended."""
        return float(np.percentile(self.seconds(name), share))

    def noise(self, name: str, share: float) -> float:
        """Range of the rounds' own percentiles over the percentile of all."""
        each = [np.percentile(part[name], share) for part in self._rounds if name in part]
        whole = self.percentile(name, share)
        return float(max(each) - min(each)) / whole if whole > 0 else 0.0


def noise_warning(timings: Sequence[Timing]) -> str | None:
    """A line to print when the machine was too noisy to tell, else None."""
    worst = max(timing.spread for timing in timings)
    if worst <= NOISY:
        return None
    return (
        f"noisy machine: the middle half of some repetitions spreads over {worst:.0%} of the median"
    )


def environment() -> dict[str, Any]:
    """What a figure was measured with, when and by what; never paths or environment variables."""
    names = ("torch", "onnxruntime", "faiss-cpu", "numpy", "openvino")
    return {
        "date": date.today().isoformat(),
        "command": command(sys.argv),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "usable_cores": processors(),
        "python": platform.python_version(),
        "system": platform.system(),
        "packages": {name: version for name in names if (version := _version(name))},
    }


def command(words: Sequence[str]) -> str | None:
    """A benchmark's command line as anyone can type it: no paths, no file that it writes.

    Args:
        words: as `sys.argv`.

    Returns:
        None where the process was started as something else, by a test for instance.
    """
    started, *rest = words
    if Path(__file__).parents[1] in Path(started).parents:
        rest = ["bench", Path(started).stem, *rest]
    elif Path(started).name != "hficma":
        return None
    kept: list[str] = []
    for word in rest:
        if kept and kept[-1] in NOT_SAID:
            kept.pop()
        else:
            # A path says where something lies on one machine; its name says what it is.
            name, equals, value = word.rpartition("=")
            kept.append(f"{name}{equals}{Path(value).name if '/' in value else value}")
    return shlex.join(["hficma", *kept])


def peak_resident_mb() -> float:
    """Peak resident memory of this process so far, in MB; on Linux, whose unit this is."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    wide = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
            if flag in flags]  # fmt: skip
    return f"{models[0] if models else 'unknown'} ({', '.join(wide)})"
