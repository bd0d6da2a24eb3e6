"""Writes a dataset directory: what an import leaves."""
