"""Runs the command line by `python -m hficma.cli`."""

from . import main

main()
