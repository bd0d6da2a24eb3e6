"""Finds a runtime by name. Each lies in a file of its own, imported when it is first used."""

from __future__ import annotations

import importlib

from hficma.errors import InputError

from .base import Runtime

RUNTIMES = {
    "onnxruntime": ("onnxruntime_backend", "OnnxRuntime"),
    "openvino": ("openvino_backend", "OpenVinoRuntime"),
    "tensorrt": ("tensorrt_backend", "TensorRTRuntime"),
    "torch": ("torch_backend", "TorchRuntime"),
}
"""Module and class of each runtime; imported on first use, since each needs its own package."""


def runtime_class(name: str) -> type[Runtime]:
    """Return the runtime class of a name.

    Args:
        name: a key of `RUNTIMES`.

    Raises:
        InputError: no such runtime.
    """
    if name not in RUNTIMES:
        raise InputError(f"runtime {name}: there is none; take auto, {', '.join(RUNTIMES)}")
    module, class_name = RUNTIMES[name]
    loaded: type[Runtime] = getattr(importlib.import_module(f".{module}", __package__), class_name)
    return loaded
