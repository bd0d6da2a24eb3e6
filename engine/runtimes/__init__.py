"""What executes a compiled graph: one backend a file, behind one class that all of them offer.

ExecutionOptions(runtime="auto", precision="fp32", device="cpu", threads=None)
selection.choose(graph, reference, options)    what `auto` takes: the fastest that agrees
runtime_class(name).load(graph).run(arrays)    what every backend can do (`base`)
"""

from __future__ import annotations

from .base import Arrays, ExecutionReport, Graph, Runtime
from .options import ExecutionKeywords, ExecutionOptions
from .registry import RUNTIMES, runtime_class

__all__ = [
    "RUNTIMES",
    "Arrays",
    "ExecutionKeywords",
    "ExecutionOptions",
    "ExecutionReport",
    "Graph",
    "Runtime",
    "runtime_class",
]
