"""What executes a compiled branch, a file each."""

from __future__ import annotations

import importlib

from hficma.errors import InputError

from .base import Array, Arrays, Execution, Graph, Port, Runtime

__all__ = ["RUNTIMES", "Array", "Arrays", "Execution", "Graph", "Port", "Runtime", "runtime"]

RUNTIMES = {
    "onnxruntime": ("onnxruntime_backend", "OnnxRuntime"),
    "openvino": ("openvino_backend", "OpenVinoRuntime"),
    "tensorrt": ("tensorrt_backend", "TensorRTRuntime"),
    "torch": ("torch_backend", "TorchRuntime"),
}
"""Module and class of each runtime; loaded when asked for, since each needs its own package."""


def runtime(name: str) -> type[Runtime]:
    """The runtime of a name.

    Raises:
        InputError: no such runtime.
    """
    if name not in RUNTIMES:
        raise InputError(f"runtime {name}: there is none; take auto, {', '.join(RUNTIMES)}")
    module, kind = RUNTIMES[name]
    loaded: type[Runtime] = getattr(importlib.import_module(f"{__name__}.{module}"), kind)
    return loaded
