"""How a bundle's graphs are executed: one value that travels from the caller to the runtime.

Functions that people call (`Engine.open`, `build_index`, `IndexWriter.add`) take the fields as
keyword arguments, since `Engine.open(index, device="cuda")` is what a hand types. They are typed by
`ExecutionKeywords`, so that no signature lists them again. Everything below takes the value.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Self, TypedDict, Unpack

from hficma.errors import InputError

from .registry import RUNTIMES

AUTO = "auto"
"""Instead of a runtime's name: the fastest here that agrees with the reference, graph by graph."""


class ExecutionKeywords(TypedDict, total=False):
    """The fields of `ExecutionOptions` as keyword arguments, for signatures that take them."""

    runtime: str
    precision: str
    device: str
    threads: int | None


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """Which runtime executes a bundle's graphs, in which precision, where, on how many cores.

    Raises:
        InputError: there is no such runtime, or no thread to run on.
    """

    runtime: str = AUTO
    """`auto`, `onnxruntime`, `openvino`, `native`, `tensorrt` or `torch`. `native` scores pairs
    with the package's own kernels, and leaves the other graphs to `auto`."""
    precision: str = "fp32"
    """`fp32`, `fp16`, `bf16` or `int8`; a graph that lacks it runs in `fp32`, and one of a slim
    bundle in the only one that it has."""
    device: str = "cpu"
    """`cpu` or `cuda[:N]`."""
    threads: int | None = None
    """CPU cores to use; None takes all that the process may use."""

    def __post_init__(self) -> None:
        if self.runtime != AUTO and self.runtime not in RUNTIMES:
            known = ", ".join((AUTO, *RUNTIMES))
            raise InputError(f"runtime {self.runtime}: there is none; take {known}")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads is {self.threads}: take at least 1, or None for all cores")

    def changed(self, **fields: Unpack[ExecutionKeywords]) -> Self:
        """Return these options with some fields replaced."""
        return dataclasses.replace(self, **fields)

    @property
    def thread_count(self) -> int:
        """Return `threads` as a number: all cores that the process may use where it is None."""
        return self.threads or processors()

    def with_thread_count(self) -> Self:
        """Return these options with `threads` as a number.

        A runtime left to itself would count the machine's cores, not those the process may use.
        """
        return self.changed(threads=self.thread_count)

    def keywords(self) -> ExecutionKeywords:
        """Return the fields as keyword arguments, for a function that takes `ExecutionKeywords`."""
        return ExecutionKeywords(
            runtime=self.runtime,
            precision=self.precision,
            device=self.device,
            threads=self.threads,
        )


def processors() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
