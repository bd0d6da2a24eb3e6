"""Takes up an import that was killed, where that is safe, and keeps other imports off meanwhile.

Going on with shards of another source, or with other options, would give a dataset that no command
could make again. So an unfinished import carries a signature, and one that differs is refused.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...artifacts.manifest import write_atomically
from ...artifacts.unfinished import remove_tree
from ...errors import ArtifactError
from ..layout import NOTES, STORED_SIDE
from .recipe_store import PART, STATE, ImportState

SCRATCH = "scratch-"
"""Begins the names of temporary folders for what is too much for memory."""


@contextlib.contextmanager
def import_lock(out: Path, building: Path) -> Iterator[None]:
    """Hold the lock of an import for the block.

    Args:
        out: the dataset directory, for the message.
        building: the unfinished directory that the lock guards.

    Raises:
        ArtifactError: another process has the lock, or `building` is a link.
    """
    from filelock import FileLock, Timeout

    if building.is_symlink():
        raise ArtifactError(f"{building}: is a link, where a dataset is written; remove it")
    path = building.with_name(f"{building.name}.lock")
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ArtifactError(
            f"{out}: is being written by another import; wait for it or give another name"
        ) from None
    try:
        yield
    finally:
        # Removed while it is held: whoever opened it meanwhile finds that it has no name any more.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def open_state(building: Path, signature: dict[str, Any], out: Path) -> ImportState:
    """Return the state of an unfinished import of the same source, or a fresh one.

    Files that a killed import left half-written are removed.

    Args:
        building: the unfinished directory, made where it is missing.
        signature: of the source and the options.
        out: the dataset directory, for the message.

    Raises:
        ArtifactError: the unfinished import is of another source or with other options.
    """
    building.mkdir(exist_ok=True)
    path = building / STATE
    state, different = ImportState(signature=signature), ""
    if path.exists():
        try:
            state = ImportState(**json.loads(path.read_text(encoding="utf-8")))
            different = _difference(state.signature, signature)
            if state.complete and not (building / NOTES).exists():
                different = "it was begun by an older version"
        except (ValueError, TypeError, AttributeError) as error:
            raise ArtifactError(
                f"{building}: is an unfinished import whose {STATE} is damaged; pass restart to "
                f"begin anew, or write to another place than {out}"
            ) from error
        if different and state.shards:
            raise ArtifactError(
                f"{building}: is an unfinished import with {sum(state.shards)} recipes written, "
                f"and {different}; pass restart to begin anew, or write to another place than {out}"
            )
    if not state.shards:  # killed before anything counted
        state = ImportState(signature=signature)
        remove_tree(building)
        building.mkdir()
        write_atomically(path, json.dumps(asdict(state)).encode())
    for leftover in list(building.iterdir()):
        if leftover.name.startswith(SCRATCH):
            remove_tree(leftover)
        elif leftover.name.endswith(PART):
            leftover.unlink()
    return state


_MEANINGS = {
    "source": "the kind of source",
    "path": "the source",
    "modified": "the source's date",
    "max_photos": "max_photos",
    "photo_side": "photo_side",
}


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return in words how an unfinished import differs from this one; empty where it does not."""
    before = {"photo_side": STORED_SIDE, **before}  # an older version said nothing of it
    others = sorted((before.keys() | now.keys()) - _MEANINGS.keys())
    for key in (*_MEANINGS, *others):
        old, new = before.get(key), now.get(key)
        if old != new and key == "modified":
            return "the source was changed since it began"
        if old != new:
            return f"{_MEANINGS.get(key, key)} was {old}, now it is {new}"
    return ""
