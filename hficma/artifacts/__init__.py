"""Directories that the program writes: manifests, atomic writes, locks, the workspace."""
