"""Lets one writer at a time at an artifact, by a lock file that the writer holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..errors import ArtifactError

LOCK = ".lock"
"""The lock's name inside an artifact that is changed where it stands."""


@contextlib.contextmanager
def locked(lock: Path, *, name: str) -> Iterator[None]:
    """Hold a lock file, which the system releases when the process ends in any way.

    Args:
        lock: the file; made if need be, never emptied, and no link.
        name: what is written to, for messages.

    Raises:
        ArtifactError: another process holds it.
    """
    from filelock import FileLock, Timeout

    # Not bound to a thread: a writer may be closed by another one than opened it.
    file = FileLock(lock, timeout=0, thread_local=False)
    try:
        file.acquire()
    except Timeout as error:
        raise ArtifactError(
            f"{name}: another process is writing to it; wait until it is done"
        ) from error
    try:
        yield
    finally:
        file.release()
