"""`python -m hficma.cli`."""

from . import main

main()
