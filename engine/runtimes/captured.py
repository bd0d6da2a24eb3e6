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
from typing import Any, NamedTuple

import torch
from torch import Tensor

MOST_RECORDINGS = 4
"""Shapes that are recorded: one photo, a full batch, and what else comes often."""
RECORDED_CALL = 2
"""A shape's call that is recorded: the last batch of a list has a size that never comes again."""
WARM_UPS = 3
"""Runs before a recording: libraries choose algorithms and take workspaces, kernels are compiled
and loaded, none of which a recording may hold."""

_one_recording = threading.Lock()
"""Held while any function is recorded: CUDA takes one recording at a time in a process. Each begins
by waiting for the whole device, which would break another's."""

_log = logging.getLogger("hficma")


class ShapeClass(NamedTuple):
    """What a recording is made for."""

    shapes: tuple[tuple[tuple[int, ...], torch.dtype], ...]
    """Shape and dtype of each tensor."""
    numbers: tuple[int, ...]
    """Numbers that the function reads on the host."""


class CapturedCalls:
    """A function of tensors that is recorded for each shape of its arguments, and replayed.

    On another device than a GPU, for shapes past the first few, and where a function cannot be
    recorded (it reads a value on the host), it is called as it is: the results are the same.

    Args:
        function: takes tensors, then numbers, and returns tensors, all on one device; must not
            branch on tensors' values.
        device: where.
        name: of the function, for the log.
        most: shape classes that are recorded; each keeps its arguments, its results and what the
            largest of all computes in between in the GPU's memory.
    """

    def __init__(
        self,
        function: Callable[..., Sequence[Tensor]],
        device: torch.device | str,
        *,
        name: str = "a function",
        most: int = MOST_RECORDINGS,
    ) -> None:
        self._function = function
        self._device = torch.device(device)
        self._name, self._most = name, most
        self._recordings: dict[ShapeClass, Recording] = {}
        self._calls: Counter[ShapeClass] = Counter()
        self._shared: Shared | None = None
        self._lock = threading.Lock()
        self._recordable = self._device.type == "cuda"

    def __call__(self, *arguments: Tensor, numbers: tuple[int, ...] = ()) -> Sequence[Tensor]:
        """Call the function, by its recording for this shape class if there is or can be one.

        Args:
            arguments: the tensors.
            numbers: what else the function takes, behind them.
        """
        if not self._recordable:
            return self._function(*arguments, *numbers)
        shapes = tuple((tuple(one.shape), one.dtype) for one in arguments)
        key = ShapeClass(shapes, numbers)
        # One call at a time: a recording has one set of arrays.
        with self._lock, torch.inference_mode():
            recording = self._recordings.get(key)
            if recording is None and len(self._recordings) < self._most:
                self._calls[key] += 1
                if self._calls[key] >= RECORDED_CALL:
                    recording = self._record(key, arguments)
            if recording is not None:
                return recording.replay(arguments)
        return self._function(*arguments, *numbers)

    def _record(self, key: ShapeClass, arguments: Sequence[Tensor]) -> Recording | None:
        """Record the function for a shape class of some arguments; None where that fails."""

        def function(*tensors: Tensor) -> Sequence[Tensor]:
            return self._function(*tensors, *key.numbers)

        try:
            with _one_recording:
                if self._shared is None:
                    self._shared = Shared(self._device)
                recording = Recording(function, arguments, self._shared)
        except RuntimeError as error:
            # Not tried again: what a function does on the host it does at any size.
            self._recordable = False
            reason = str(error).splitlines()[0]
            _log.info(
                "%s runs without a CUDA graph: it cannot be recorded (%s)", self._name, reason
            )
            return None
        self._recordings[key] = recording
        return recording


class Shared:
    """What the recordings of one function share, since one of them replays at a time.

    Args:
        device: where they are recorded.
    """

    def __init__(self, device: torch.device) -> None:
        self.pool: Any = torch.cuda.graph_pool_handle()
        """Memory of what they compute: about as much as the largest needs."""
        self.stream: Any = torch.cuda.Stream(device)
        """On which they are recorded: cuBLAS keeps up to 32 MB for each stream that it has seen."""
        self.done: Any = torch.cuda.Event()
        """The end of the last replay of any of them, on whichever stream it ran."""


class Recording:
    """A function recorded for one shape of its arguments.

    Args:
        function: to record.
        arguments: of the shapes.
        shared: with other recordings of the function.
    """

    def __init__(
        self, function: Callable[..., Sequence[Tensor]], arguments: Sequence[Tensor], shared: Shared
    ) -> None:
        self._arguments = [one.clone() for one in arguments]
        self._device = arguments[0].device
        self._done, stream = shared.done, shared.stream
        self._graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(self._device)
        # The outer block restores device and stream also where a capture fails: torch's own then
        # leaves its stream the current one.
        with torch.cuda.device(self._device), torch.cuda.stream(current):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    function(*self._arguments)
            current.wait_stream(stream)
            # Other threads may allocate meanwhile, which is forbidden to this one alone.
            with torch.cuda.graph(
                self._graph, pool=shared.pool, stream=stream, capture_error_mode="thread_local"
            ):
                self._results = list(function(*self._arguments))

    def replay(self, arguments: Sequence[Tensor]) -> list[Tensor]:
        """Run on arguments, and return results that no later run changes."""
        with torch.cuda.device(self._device):
            stream = torch.cuda.current_stream(self._device)
            # Another stream may still compute in the same memory, or copy the last results out.
            stream.wait_event(self._done)
            for place, argument in zip(self._arguments, arguments, strict=True):
                place.copy_(argument)
            self._graph.replay()
            results = [result.clone() for result in self._results]
            self._done.record(stream)
        return results
