"""How every benchmark measures: interleaved repetitions, medians with their spread, the machine."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from hficma.engine.runtimes.options import processors

REGIONS = 49
"""R: regions of a photo, where a benchmark draws them: those of torchvision's classifiers."""
NOT_SAID = ("--json", "--out", "--plot", "--png", "--only", "--cache", "--keep-runs")
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


class Recorder:
    """Seconds of named tasks in rounds that are spread over a run.

    A round's median meets the machine as it was then, so the range of the rounds' medians says
    how far a second run may lie from this one; the spread within a round does not.
    """

    def __init__(self) -> None:
        self._rounds: list[dict[str, list[float]]] = []

    def new_round(self) -> None:
        """Begin another round, to which what is timed from now on belongs."""
        self._rounds.append({})

    def add(self, name: str, seconds: float) -> None:
        """Count one repetition of a task."""
        self._rounds[-1].setdefault(name, []).append(seconds)

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Time a block as one repetition of a task."""
        start = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - start)

    def names(self) -> list[str]:
        """Return the tasks, in the order first seen."""
        return list(dict.fromkeys(name for part in self._rounds for name in part))

    def seconds(self, name: str) -> list[float]:
        """Return all repetitions of a task."""
        return [second for part in self._rounds for second in part.get(name, ())]

    def percentile(self, name: str, share: float) -> float:
        """Return the seconds within which `share` per cent of a task's repetitions ended."""
        return float(np.percentile(self.seconds(name), share))

    def median(self, name: str) -> float:
        """Return the median seconds of a task."""
        return self.percentile(name, 50)

    def spread(self, name: str) -> float:
        """Return the interquartile range of all repetitions over their median."""
        return (self.percentile(name, 75) - self.percentile(name, 25)) / self.median(name)

    def noise(self, name: str, share: float = 50) -> float:
        """Return the range of the rounds' own percentiles over the percentile of all."""
        each = [np.percentile(part[name], share) for part in self._rounds if name in part]
        whole = self.percentile(name, share)
        return float(max(each) - min(each)) / whole if whole > 0 else 0.0


def interleaved(
    tasks: Mapping[str, Callable[[], object]], *, repeats: int, warmup: int = 1
) -> Recorder:
    """Time tasks in turn, A B C A B C ..., so that a drift of the machine meets all of them."""
    for task in tasks.values():
        for _ in range(warmup):
            task()
    recorder = Recorder()
    recorder.new_round()
    for _ in range(repeats):
        for name, task in tasks.items():
            with recorder.timed(name):
                task()
    return recorder


def noise_warning(spreads: Iterable[float]) -> str:
    """Return a line to print when the machine was too noisy to tell, by `Recorder.spread`."""
    if (worst := max(spreads)) <= NOISY:
        return ""
    return (
        f"noisy machine: the middle half of some repetitions spreads over {worst:.0%} of the median"
    )


def environment(**more: object) -> dict[str, Any]:
    """Return what a figure was measured with, when and by what; never a path or a variable.

    Args:
        more: facts beside those of the machine, such as `threads`.
    """
    packages = {}
    for name in ("torch", "onnxruntime", "faiss-cpu", "numpy", "openvino"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            packages[name] = metadata.version(name)
    return {
        "date": date.today().isoformat(),
        "command": command(sys.argv),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "usable_cores": processors(),
        "python": platform.python_version(),
        "system": platform.system(),
        "packages": packages,
        **more,
    }


def command(words: Sequence[str]) -> str | None:
    """Return a benchmark's command line as anyone can type it: no path, no file that it writes.

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
    typed: list[str] = []
    for word in rest:
        if typed and typed[-1] in NOT_SAID:
            typed.pop()
        else:
            # A path says where something lies on one machine; its name says what it is.
            name, equals, value = word.rpartition("=")
            typed.append(f"{name}{equals}{Path(value).name if '/' in value else value}")
    return shlex.join(["hficma", *typed])


def peak_resident_mb() -> float:
    """Return the peak resident memory of this process so far, in MB; on Linux, whose unit it is."""
    import resource  # POSIX alone has it, and this module is imported everywhere

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _processor() -> str:
    """Name the processor and those of its instruction sets that change a figure."""
    file = Path("/proc/cpuinfo")
    if not file.exists():
        return platform.processor() or "unknown"
    # One block of lines a core, all alike.
    lines = (line.partition(":") for line in file.read_text(encoding="utf-8").splitlines())
    facts = {key.strip(): value.strip() for key, _, value in lines}
    flags = facts.get("flags", "").split()
    wide = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
            if flag in flags]  # fmt: skip
    return f"{facts.get('model name', 'unknown')} ({', '.join(wide)})"
