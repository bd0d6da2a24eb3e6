"""Changes an index: build, add, remove, compact, verify."""
