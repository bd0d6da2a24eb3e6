"""The run directory, its log and its curves."""
