"""Makes bundles: branch graphs, ONNX, precision, TensorRT, parity."""

from .bundle import export_model, export_run
from .parity import ParityError, check_bundle
from .tensorrt import build_plans

__all__ = ["ParityError", "build_plans", "check_bundle", "export_model", "export_run"]
