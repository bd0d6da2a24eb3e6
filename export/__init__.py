"""Makes bundles: branch graphs, ONNX, precision, TensorRT, parity."""

from .exporter import export_model, export_run
from .parity import ParityError, check_bundle
from .tensorrt_build import build_plans

__all__ = ["ParityError", "build_plans", "check_bundle", "export_model", "export_run"]
