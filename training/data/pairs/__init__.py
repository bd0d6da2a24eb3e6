"""The pairs of a run, by row.

`split` says which of a dataset's they are; `photos` what of their photos the workspace's cache
holds; `pairs` gives their batches.
"""
