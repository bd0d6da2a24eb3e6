"""How a command ends: exit codes, all of which docs/reference/cli.md lists."""

from __future__ import annotations

BAD_INPUT = 2
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""
INTERRUPTED_LINE = "hficma: interrupted; what was finished is kept, nothing is half-written"
