"""Names what is being written, and sweeps what killed processes left of it.

A directory in the making is `.NAME.TOKEN.part`, with a lock `.NAME.TOKEN.part.lock` beside it that
its writer holds: the system lets go of it however the writer ends, so whoever gets the lock knows
that nobody writes there. A file in the making is `.NAME.PID.TOKEN.part`, for one rename, and dead
where its process is.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

ABANDONED_SECONDS = 3600.0
"""A folder without a lock, as older versions wrote them, is in nobody's hands after so long."""

_DIRECTORY = re.compile(r"\.(?P<name>.+)\.(?P<token>[A-Za-z0-9_]{8})\.part")
_FILE = re.compile(r"\.(?P<name>.+?)\.(?P<pid>\d+)(\.(?P<token>[0-9a-f]{8}))?\.part")

_writing: set[str] = set()
"""Tokens of the files that this process is writing."""


@contextlib.contextmanager
def unfinished_directory(path: Path) -> Iterator[Path]:
    """Make an empty folder beside `path`; whatever is left of it at the block's end is removed.

    Before that, what killed processes left in the same place is swept.

    Raises:
        OSError: the place cannot be written.
    """
    sweep_directories(path)
    building = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with _try_lock(_lock_file(building)) as acquired:
        assert acquired, "nobody else knows the token"
        building.mkdir()
        try:
            yield building
        finally:
            remove_tree(building)


def sweep_directories(path: Path) -> None:
    """Remove the unfinished folders in `path`'s folder that no living process writes.

    Those with a lock beside them are ours, whatever artifact they were to become; one without,
    which an older version left, is removed only where it has `path`'s name and is old.
    """
    for entry in list(path.parent.iterdir()):
        match = _DIRECTORY.fullmatch(entry.name.removesuffix(".lock"))
        if match is None:
            continue
        building = entry.with_name(match.group())
        if _lock_file(building).is_file():
            with _try_lock(_lock_file(building)) as acquired:
                if acquired:
                    remove_tree(building)
        elif match["name"] == path.name and _age(building) > ABANDONED_SECONDS:
            remove_tree(building)


@contextlib.contextmanager
def unfinished_file(path: Path) -> Iterator[Path]:
    """Yield the path of a file beside `path` to write and rename.

    It is removed if it is still there at the end of the block.

    Before that, what killed processes left of the same file is swept.
    """
    sweep_files(path)
    token = secrets.token_hex(4)
    _writing.add(token)
    part = path.with_name(f".{path.name}.{os.getpid()}.{token}.part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)
        _writing.discard(token)


def sweep_files(path: Path) -> None:
    """Remove the unfinished forms of the file `path` whose processes have ended."""
    prefix = f".{path.name}."
    for entry in list(path.parent.iterdir()):
        if not entry.name.startswith(prefix):
            continue
        match = _FILE.fullmatch(entry.name)
        if match and match["name"] == path.name and not _is_writing(int(match["pid"]), match):
            with contextlib.suppress(OSError):
                entry.unlink()


def remove_tree(folder: Path) -> None:
    """Remove a folder and what is in it as far as that is possible, never through a link."""
    if folder.is_symlink():
        folder.unlink(missing_ok=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _lock_file(building: Path) -> Path:
    return building.with_name(f"{building.name}.lock")


@contextlib.contextmanager
def _try_lock(lock: Path) -> Iterator[bool]:
    """Take a lock for the block, if nobody has it; its file is removed afterwards.

    Yields:
        whether it was free.
    """
    from filelock import FileLock, Timeout

    file = FileLock(lock, timeout=0)
    try:
        file.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        # Removed while it is held: whoever opened it meanwhile finds that it has no name any more.
        with contextlib.suppress(OSError):
            lock.unlink()
        file.release()


def _is_writing(pid: int, match: re.Match[str]) -> bool:
    """Return whether the process of an unfinished file may still be writing it."""
    if pid == os.getpid():  # containers give the same few numbers again and again
        return match["token"] in _writing
    if os.name != "posix":
        return True  # there, asking about a process sends it a signal
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _age(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:
        return 0.0
