"""Finds a runtime by name, and knows what each needs and where `auto` may take it.

Each lies in a file of its own, imported when it is first used, since each needs its own package.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.util import find_spec

from hficma.errors import InputError

from ..native.library import has_kernels
from .base import Runtime


@dataclass(frozen=True, kw_only=True)
class Backend:
    """What is known of a runtime before its package is imported."""

    module: str
    """Its file here."""
    class_name: str
    """Its class there."""
    imports: tuple[str, ...]
    """Modules that bring it, one of which is enough; none for kernels of this package."""
    distributions: tuple[str, ...]
    """Packages by their names in a registry: a measurement holds for their versions."""
    automatic: tuple[str, ...]
    """Kinds of device, `cpu` and `cuda`, on which `auto` may take it."""
    cuda_provider: str | None = None
    """What its build must list to run on CUDA; None where the build does not tell."""
    graphs: str | None = None
    """What the names of the graphs that it runs begin with; None for one that runs all."""

    def runs(self, graph: str) -> bool:
        """Return whether it runs the graph of a name."""
        return self.graphs is None or graph.startswith(self.graphs)

    @property
    def is_installed(self) -> bool:
        """Return whether one of its modules can be imported, or its kernels loaded."""
        if not self.imports:
            return has_kernels()
        return any(find_spec(name) is not None for name in self.imports)

    def is_able(self, device: str) -> bool:
        """Return whether `auto` may take it on `cpu` or `cuda[:N]`, as it is installed."""
        kind = device.partition(":")[0]
        return (
            kind in self.automatic and self.is_installed and (kind == "cpu" or _is_cuda_build(self))
        )


RUNTIMES = {
    "onnxruntime": Backend(
        module="onnxruntime_backend",
        class_name="OnnxRuntime",
        imports=("onnxruntime",),
        distributions=("onnxruntime", "onnxruntime-gpu"),
        automatic=("cpu", "cuda"),
        cuda_provider="CUDAExecutionProvider",
    ),
    "openvino": Backend(
        module="openvino_backend",
        class_name="OpenVinoRuntime",
        imports=("openvino",),
        distributions=("openvino",),
        automatic=("cpu",),
    ),
    # On a CPU it has no plans, and torch is the reference, not a way to serve.
    "tensorrt": Backend(
        module="tensorrt_backend",
        class_name="TensorRTRuntime",
        imports=("tensorrt", "tensorrt_rtx"),
        distributions=("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx"),
        automatic=("cuda",),
    ),
    # It is compiled with the package, and scores pairs only.
    "native": Backend(
        module="native_backend",
        class_name="NativeRuntime",
        imports=(),
        distributions=(),
        automatic=("cpu",),
        graphs="cross",
    ),
    "torch": Backend(
        module="torch_backend",
        class_name="TorchRuntime",
        imports=("torch",),
        distributions=("torch",),
        automatic=("cuda",),
    ),
}
"""The runtimes by name."""


def runtime_class(name: str) -> type[Runtime]:
    """Return the runtime class of a name.

    Args:
        name: a key of `RUNTIMES`.

    Raises:
        InputError: no such runtime.
    """
    if name not in RUNTIMES:
        raise InputError(f"runtime {name}: there is none; take auto, {', '.join(RUNTIMES)}")
    backend = RUNTIMES[name]
    loaded: type[Runtime] = getattr(
        importlib.import_module(f".{backend.module}", __package__), backend.class_name
    )
    return loaded


def able(graph: str, device: str) -> list[str]:
    """Return the runtimes that `auto` may take for a graph, those that run only such ones first.

    Args:
        graph: its name.
        device: `cpu` or `cuda[:N]`.
    """
    special = [
        name
        for name, backend in RUNTIMES.items()
        if backend.graphs is not None and backend.runs(graph) and backend.is_able(device)
    ]
    return [*special, *installed(device)]


def installed(device: str) -> list[str]:
    """Return the runtimes that run every graph of a bundle on a device, by what is installed.

    Args:
        device: `cpu` or `cuda[:N]`.
    """
    names = [
        name
        for name, backend in RUNTIMES.items()
        if backend.graphs is None and backend.is_able(device)
    ]
    return names or ["onnxruntime"]  # whose absence is reported with what to install


def _is_cuda_build(backend: Backend) -> bool:
    """Return whether an installed runtime was built for CUDA, as far as its build tells.

    Where it was, only a session shows whether it runs there: onnxruntime's build for GPUs lists its
    provider on a machine without a driver too, and falls back to the CPU.
    """
    if backend.cuda_provider is None:
        return True
    module = importlib.import_module(backend.imports[0])
    return backend.cuda_provider in module.get_available_providers()
