"""Makes bundles: branch graphs, ONNX, precision, TensorRT, parity."""

from .bundle import export_model, export_run

__all__ = ["export_model", "export_run"]
