"""Exports bundles: graphs to ONNX, precisions, parity with the model, TensorRT plans."""

from .exporter import export_model, export_run
from .parity import ParityError, check_bundle
from .tensorrt_build import build_plans

__all__ = ["ParityError", "build_plans", "check_bundle", "export_model", "export_run"]
