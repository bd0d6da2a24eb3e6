"""Exports bundles: graphs to ONNX, precisions, parity with the model, TensorRT plans."""

from .exporter import export_model, export_run
from .parity import ParityError, check_bundle
from .slim import slim_bundle
from .tensorrt_build import build_plans, check_tensorrt

__all__ = [
    "ParityError",
    "build_plans",
    "check_bundle",
    "check_tensorrt",
    "export_model",
    "export_run",
    "slim_bundle",
]
