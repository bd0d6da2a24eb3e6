"""Runs the torch model itself, from the weights in the bundle: the reference of all others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self
from weakref import WeakValueDictionary

from hficma.artifacts.manifest import MANIFEST
from hficma.errors import InputError, MissingDependencyError
from hficma.types import Array

from .base import Arrays, ExecutionReport, Graph, Runtime, prepare_inputs

if TYPE_CHECKING:
    from hficma.model.graphs import Branch


class TorchRuntime(Runtime):
    """A branch of the model, run eagerly in float32.

    Args:
        model: the branches that it is one of.
        branch: on its device.
        graph: what it runs.
        device: where the branch is.
    """

    name: ClassVar[str] = "torch"
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)

    def __init__(self, model: _Branches, branch: Branch, graph: Graph, device: str) -> None:
        self._model = model  # keeps it in memory for the bundle's other graphs
        self._branch = branch
        self._graph = graph
        self._device = device

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
        model = _load_branches(graph)
        if graph.precision != "fp32":
            raise InputError(f"runtime torch runs fp32, not {graph.precision}")
        return cls(model, model.branches[graph.name].to(device), graph, device)

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """See `Runtime.run`."""
        import torch

        arrays = prepare_inputs(self._graph, inputs)
        with torch.inference_mode():
            results = self._branch(
                *(torch.tensor(arrays[name], device=self._device) for name in self._branch.inputs)
            )
        names = self._branch.outputs
        return {name: result.cpu().numpy() for name, result in zip(names, results, strict=True)}

    def describe(self) -> ExecutionReport:
        """See `Runtime.describe`."""
        import torch

        return ExecutionReport(
            runtime=self.name,
            version=torch.__version__,
            provider="eager",
            device=self._device,
            precision="fp32",
        )


class _Branches:
    """The branches of a bundle's model, which share its weights."""

    def __init__(self, bundle: Path) -> None:
        from hficma.model.graphs import branches
        from hficma.model.loading import load_model

        self.branches: dict[str, Branch] = dict(branches(load_model(bundle)))


_loaded: WeakValueDictionary[tuple[Path, bytes], _Branches] = WeakValueDictionary()
"""By bundle and content of its manifest, which changes where another bundle takes its place; freed
with the last runtime that uses them."""


def _load_branches(graph: Graph) -> _Branches:
    """Return the branches of a graph's bundle, loaded once for all of its graphs."""
    key = graph.bundle, (graph.bundle / MANIFEST).read_bytes()
    model = _loaded.get(key)
    if model is None:
        model = _loaded[key] = _Branches(graph.bundle)
    return model
