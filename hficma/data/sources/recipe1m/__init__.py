"""Readers of Recipe1M as its users share it: layers, LMDBs, pickles, Torch files."""
