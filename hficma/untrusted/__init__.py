"""Reads pickles and checkpoints from outside without running code of theirs."""
