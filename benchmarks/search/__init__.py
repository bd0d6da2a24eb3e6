"""Benchmarks of searching: latency by stage, recall beside it, growth, contact sheets."""
