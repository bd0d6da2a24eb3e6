"""Readers of recipe files, a format each."""
