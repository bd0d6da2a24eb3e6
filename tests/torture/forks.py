"""Runs what may be killed in a fork of this process, which has imported everything already."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable


def forked(command: Callable[[], object], kill_after: float | None = None) -> int:
    """Run a command in a fork; return its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            command()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
