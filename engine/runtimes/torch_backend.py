"""The torch model itself, from the bundle's weights: the reference that others are held to."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from hficma.artifacts.manifest import MANIFEST
from hficma.errors import InputError, MissingDependencyError
from hficma.types import Array

from .base import Arrays, Execution, Graph, Runtime, prepared

if TYPE_CHECKING:
    from hficma.model.graphs import Branch


class TorchRuntime(Runtime):
    """A branch of the model, run eagerly in float32.

    Args:
        branch: on its device.
        graph: what it runs.
        device: where it is.
    """

    name: ClassVar[str] = "torch"
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)

    def __init__(self, branch: Branch, graph: Graph, device: str) -> None:
        self._branch = branch
        self._graph = graph
        self._device = device

    @classmethod
    def load(cls, graph: Graph, *, device: str = "cpu", threads: int | None = None) -> Self:
        """See the base, but for `threads`: torch has one number of them for the whole process.

        That is its owner's to set; `threads` is left aside.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingDependencyError("torch", "train", "the runtime torch") from error
        if graph.precision != "fp32":
            raise InputError(f"runtime torch runs fp32, not {graph.precision}")
        if device != "cpu" and not torch.cuda.is_available():
            raise InputError(f"device {device}: torch sees no CUDA device; take --device cpu")
        written = (graph.bundle / MANIFEST).read_bytes()
        return cls(_branches(graph.bundle, written)[graph.name].to(device), graph, device)

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """See the base."""
        import torch

        ready = prepared(self._graph, inputs)
        with torch.inference_mode():
            results = self._branch(
                *(torch.tensor(ready[name], device=self._device) for name in self._branch.inputs)
            )
        names = self._branch.outputs
        return {name: one.cpu().numpy() for name, one in zip(names, results, strict=True)}

    def describe(self) -> Execution:
        """See the base."""
        import torch

        return Execution(
            runtime=self.name,
            version=torch.__version__,
            provider="eager",
            device=self._device,
            precision="fp32",
        )


@lru_cache(maxsize=2)
def _branches(bundle: Path, written: bytes) -> dict[str, Branch]:
    """The branches of a bundle; `written`, its manifest, tells one made anew under its name."""
    from hficma.model.graphs import branches
    from hficma.model.loading import load_model

    return dict(branches(load_model(bundle)))
