"""Checks an ONNX file before a runtime reads it: its structure, memory and work."""
