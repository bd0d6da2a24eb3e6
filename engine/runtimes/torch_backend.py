"""Runs the torch model itself, from the weights in the bundle: the reference of all others.

On a GPU it also serves: in fp16 with channels last, which convolutions there are fastest in, and
the image branch as a CUDA graph, without which the host is busier with launches than the GPU.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self
from weakref import WeakValueDictionary

from hficma.artifacts.manifest import MANIFEST
from hficma.errors import ArtifactError, InputError, MissingDependencyError
from hficma.types import Array

from .base import Arrays, ExecutionReport, Graph, Runtime, prepare_inputs

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hficma.model.graphs import Branch

RECORDED = ("image",)
"""Graphs that run as CUDA graphs: one batch size of photos is as another. Those of recipes have
other sizes in each batch."""


class TorchRuntime(Runtime):
    """A branch of the model, run eagerly, or on a GPU as a recording.

    Args:
        model: the branches that it is one of.
        branch: on its device.
        graph: what it runs.
        device: where the branch is.
    """

    name: ClassVar[str] = "torch"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16")
    runs_any_in_fp32: ClassVar[bool] = True
    rounds_weights: ClassVar[bool] = True

    def __init__(self, model: _Branches, branch: Branch, graph: Graph, device: str) -> None:
        from .captured import CapturedCalls

        self._model = model  # keeps it in memory for the bundle's other graphs
        self._branch = branch
        self._graph = graph
        self._device = device
        recorded_on = device if graph.name in RECORDED else "cpu"
        self._run = CapturedCalls(branch, recorded_on, name=f"graph {graph.name}")

    @classmethod
    def load(cls, graph: Graph, *, device: str = "cpu", threads: int | None = None) -> Self:
        """See `Runtime.load`; but `threads` is left aside.

        torch has one number of threads for the whole process, which is its owner's to set.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingDependencyError("torch", "train", "the runtime torch") from error
        if device != "cpu" and not torch.cuda.is_available():
            raise InputError(f"device {device}: torch sees no CUDA device; take the device cpu")
        # First, for a slim bundle has no torch weights in any precision.
        model = _load_branches(graph)
        if graph.precision not in cls.precisions:
            raise InputError(
                f"runtime torch runs fp32 and fp16, not {graph.precision}; take the runtime auto"
            )
        branch = model.branches[graph.name].to(device)
        if graph.precision == "fp16" and graph.name == "image":
            branch.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(model, branch, graph, device)

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """See `Runtime.run`."""
        arrays = prepare_inputs(self._graph, inputs)
        results = self.run_tensors(
            {name: _on_device(array, self._device) for name, array in arrays.items()}
        )
        return {name: result.cpu().numpy() for name, result in results.items()}

    def run_tensors(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Runtime.run_tensors`."""
        import torch

        try:
            with torch.inference_mode(), full_float32():
                results = self._run(*(inputs[name] for name in self._branch.inputs))
        except torch.cuda.OutOfMemoryError as error:
            raise ArtifactError(
                f"{self._graph.bundle}: graph {self._graph.name} finds no memory on "
                f"{self._device}; give the index less of it"
            ) from error
        return dict(zip(self._branch.outputs, results, strict=True))

    def describe(self) -> ExecutionReport:
        """See `Runtime.describe`."""
        import torch

        return ExecutionReport(
            runtime=self.name,
            version=torch.__version__,
            provider="eager" if self._device == "cpu" else "CUDA",
            device=self._device,
            precision=self._graph.precision,
        )


def _on_device(array: Array, device: str) -> Tensor:
    """Return an array on a device; pinned memory is read while the host goes on."""
    import torch

    if device != "cpu" and array.flags.writeable:  # torch warns of memory that it must not write
        return torch.from_numpy(array).to(device, non_blocking=True)
    return torch.tensor(array, device=device)


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Keep convolutions and recurrent layers in float32 while a block launches them.

    torch lets cuDNN round them to TF32, 10 bits of mantissa, unless told otherwise. The switch is
    the whole process's: it is turned by one thread at a time, and back.
    """
    import torch

    with _cudnn_lock:
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = before


_cudnn_lock = threading.RLock()


class _Branches:
    """The branches of a bundle's model in one precision, which share its weights."""

    def __init__(self, bundle: Path, dtype: torch.dtype) -> None:
        from hficma.model.graphs import branches
        from hficma.model.loading import load_model

        self.branches: dict[str, Branch] = dict(branches(load_model(bundle), dtype))


_loaded: WeakValueDictionary[tuple[Path, bytes, str], _Branches] = WeakValueDictionary()
"""By bundle, content of its manifest, which changes where another bundle takes its place, and
precision; freed with the last runtime that uses them."""


def _load_branches(graph: Graph) -> _Branches:
    """Return the branches of a graph's bundle, loaded once for all of its graphs."""
    import torch

    key = graph.bundle, (graph.bundle / MANIFEST).read_bytes(), graph.precision
    model = _loaded.get(key)
    if model is None:
        dtype = torch.float16 if graph.precision == "fp16" else torch.float32
        model = _loaded[key] = _Branches(graph.bundle, dtype)
    return model
