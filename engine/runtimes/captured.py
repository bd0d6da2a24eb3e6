"""CUDA graphs: a function's hundreds of launches recorded once, and replayed as one.

A convolutional network on one photo is 200 launches of a few microseconds of work each, which take
the host longer than the GPU. A recording replays them in one call, with the arrays where they were:
so arguments are copied into its own, and results out of them.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

MOST_RECORDINGS = 4
"""Shapes that are recorded: one photo, a full batch, and what else comes often."""
RECORDED_CALL = 2
"""A shape's call that is recorded: the last batch of a list has a size that never comes again."""
WARM_UPS = 3
"""Runs before a recording: libraries choose algorithms and take workspaces, which none may hold."""

Shapes: TypeAlias = tuple[tuple[tuple[int, ...], torch.dtype], ...]
"""Shape and dtype of each argument."""

_log = logging.getLogger("hficma")


class CapturedCalls:
    """A function of tensors that is recorded for each shape of its arguments, and replayed.

    On another device than a GPU, for shapes past the first few, and where a function cannot be
    recorded (it reads a value on the host), it is called as it is: the results are the same.

    Args:
        function: takes tensors and returns tensors, all on one device; must not branch on values.
        device: where.
    """

    def __init__(
        self, function: Callable[..., Sequence[Tensor]], device: torch.device | str
    ) -> None:
        self._function = function
        self._device = torch.device(device)
        self._recordings: dict[Shapes, _Recording] = {}
        self._calls: Counter[Shapes] = Counter()
        self._pool: Any = None
        self._lock = threading.Lock()
        self._recordable = self._device.type == "cuda"

    def __call__(self, *arguments: Tensor) -> Sequence[Tensor]:
        """Call the function, by its recording for these shapes if there is one or can be one."""
        if not self._recordable:
            return self._function(*arguments)
        shapes = tuple((tuple(one.shape), one.dtype) for one in arguments)
        # One call at a time: a recording has one set of arrays.
        with self._lock, torch.inference_mode():
            recording = self._recordings.get(shapes)
            if recording is None and len(self._recordings) < MOST_RECORDINGS:
                self._calls[shapes] += 1
                if self._calls[shapes] >= RECORDED_CALL:
                    recording = self._record(shapes, arguments)
            if recording is not None:
                return recording.replay(arguments)
        return self._function(*arguments)

    def _record(self, shapes: Shapes, arguments: Sequence[Tensor]) -> _Recording | None:
        """Record the function for the shapes of some arguments; None where that fails."""
        try:
            # One pool for all of them, since one replays at a time: what the largest needs.
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            recording = _Recording(self._function, arguments, self._pool)
            self._recordings[shapes] = recording
        except RuntimeError as error:
            # Not tried again: what a function does on the host it does at any size.
            self._recordable = False
            reason = str(error).splitlines()[0]
            _log.info("a function runs without a CUDA graph: it cannot be recorded (%s)", reason)
            return None
        return recording


class _Recording:
    """A function recorded for one shape of its arguments.

    Args:
        function: to record.
        arguments: of the shapes.
        pool: of memory for what the function computes.
    """

    def __init__(
        self, function: Callable[..., Sequence[Tensor]], arguments: Sequence[Tensor], pool: Any
    ) -> None:
        self._arguments = [one.clone() for one in arguments]
        device = arguments[0].device
        stream: Any = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                function(*self._arguments)
        torch.cuda.current_stream(device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may allocate meanwhile, which is forbidden to this one alone.
        with torch.cuda.graph(
            self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"
        ):
            self._results = list(function(*self._arguments))
        self._done: Any = torch.cuda.Event()

    def replay(self, arguments: Sequence[Tensor]) -> list[Tensor]:
        """Run on arguments, and return results that no later run changes."""
        # Another thread's stream may still copy the last results out.
        torch.cuda.current_stream(self._arguments[0].device).wait_event(self._done)
        for place, argument in zip(self._arguments, arguments, strict=True):
            place.copy_(argument)
        self._graph.replay()
        results = [result.clone() for result in self._results]
        self._done.record()
        return results
