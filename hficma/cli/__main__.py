"""`python -m hficma.cli`."""

from hficma.cli import main

main()
