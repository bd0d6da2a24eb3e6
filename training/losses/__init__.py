"""Losses over a batch's similarities."""
