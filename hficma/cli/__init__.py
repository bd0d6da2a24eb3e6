"""The command line: parses arguments, calls the library and prints.

A command's module is imported when the command is called, and heavy packages inside its function: a
search starts in about a second, and works without torch.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from .exit_codes import INTERRUPTED, INTERRUPTED_LINE


def main() -> NoReturn:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    try:
        # Here, and not above: Ctrl-C while packages are loaded is an interrupt as any other.
        from .application import run

        run()
    except KeyboardInterrupt:
        # CPython notes an interrupt that leaves code which was executed from text, as dataclasses
        # are made, and ends the process by SIGINT though it was caught here; the next such code
        # clears the note (`run_eval_code_obj` in pythonrun.c).
        exec("")
        print(INTERRUPTED_LINE, file=sys.stderr)
        sys.exit(INTERRUPTED)
