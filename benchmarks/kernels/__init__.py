"""Benchmarks of single pieces: pair scores, compiled graphs, a training step."""
