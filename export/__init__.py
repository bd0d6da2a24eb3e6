"""Makes bundles: branch graphs, ONNX, precision, TensorRT, parity."""
