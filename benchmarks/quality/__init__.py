"""Benchmarks of how right answers are: systems and losses, texts, pages, the sample."""
