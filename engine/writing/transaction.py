"""Writing shards into an index's folder so that a kill at any moment leaves no half of one."""

from __future__ import annotations

import contextlib
import errno
import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from hficma.artifacts.manifest import MANIFEST, disk_reason, inside, sha256, sync
from hficma.artifacts.unfinished import remove_tree
from hficma.errors import ArtifactError

from ..index.index_facts import SHARDS, IndexFacts
from ..index.shard_facts import FACTS, ShardFacts
from .shard_writer import ShardWriter

PLAN = "plan.json"
"""In an unfinished index: what it is being made of. One that was killed in its last step has it
still, though it is whole."""

_SHARD_FOLDER = re.compile(r"\.?\d{6,}(\.[0-9a-f]{8})?(\.part)?")
"""Names of shards, finished and unfinished."""
_UNFINISHED_FILE = re.compile(rf"\.({re.escape(MANIFEST)}|{re.escape(PLAN)})\..+\.part")
"""Names of the unfinished files that killed writers leave beside the shards."""


def building_folder(out: Path) -> Path:
    """Return the folder in which the index `out` is built, beside it."""
    return out.with_name(f".{out.name}.building")


def building_lock(out: Path) -> Path:
    """Return the lock that whoever builds `out` holds.

    It lies beside the folder, not in it, since that is renamed in the end.
    """
    return out.with_name(f".{out.name}.building.lock")


def shard_name(number: int) -> str:
    """Return the folder of the shard with that ordinal."""
    return f"{number:06d}"


@contextlib.contextmanager
def explain_disk_errors(path: Path, *, hint: str) -> Iterator[None]:
    """Turn what a disk refuses into one line that names the index and what to do.

    Args:
        path: of the index.
        hint: what to do, and what is lost.

    Raises:
        ArtifactError: the disk is full, read-only or gone.
    """
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, sqlite3.OperationalError) else disk_reason(error)
        if reason is None:
            raise
        raise ArtifactError(f"{path}: cannot be written ({reason}); {hint}") from error


@contextlib.contextmanager
def new_shard(
    folder: Path, name: str, facts: IndexFacts, *, attempt: str = ""
) -> Iterator[ShardWriter]:
    """Write the shard `shards/NAME` for a block; it appears, whole, when the block ends well.

    Args:
        folder: of the index.
        name: of the shard.
        facts: say at what level, in what precision and with which prefilter.
        attempt: eight hexadecimal digits that no other attempt has, where another machine may be
            writing the same shard, given up for dead: the first to end then has it.
    """
    if attempt:
        part = inside(folder, SHARDS) / f".{name}.{attempt}.part"
        # Without the folders above: where they are gone, the build has ended meanwhile.
        part.mkdir()
    else:
        part = inside(folder, SHARDS) / f".{name}.part"
        remove_tree(part)  # of a writer that was killed at this shard
        part.mkdir(parents=True)
    try:
        writer = ShardWriter(
            part, level=facts.level, precision=facts.encoding_precision,
            exact_tokens=facts.exact_tokens,
        )  # fmt: skip
    except BaseException:
        remove_tree(part)
        raise
    try:
        yield writer
        writer.finish(facts.prefilter)
        # Every file is synced by now, so that after a power cut a shard with its final name is
        # whole; the folder is synced for the name itself to last.
        try:
            part.rename(folder / SHARDS / name)
        except OSError as error:
            if not attempt or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        sync(folder / SHARDS)
    finally:
        try:
            writer.close()  # writes what is buffered: a full disk refuses that once more
        finally:
            remove_tree(part)


def listed_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return what a manifest lists of finished shards: `shards/NAME/FILE` to SHA-256.

    Args:
        folder: of the index.
        names: of the shards.
    """
    files = {}
    for name in names:
        shard = folder / SHARDS / name
        facts = ShardFacts.read(shard)
        files.update({f"{SHARDS}/{name}/{file}": sha for file, sha in facts.files.items()})
        files[f"{SHARDS}/{name}/{FACTS}"] = sha256(shard / FACTS)
    return files


def shards_with_items(folder: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Return those of some shards that hold an item.

    Args:
        folder: of the index.
        names: of finished shards.
    """
    return tuple(name for name in names if ShardFacts.read(folder / SHARDS / name).count)


def sweep(folder: Path, names: Iterable[str]) -> None:
    """Remove what no manifest names: shards that killed writers and `compact` left, and files.

    Only what has a name that writers give is removed, and of a link only the link itself.

    Args:
        folder: of the index.
        names: of the shards that stay.

    Raises:
        ArtifactError: the folder of the shards is a link.
    """
    staying = set(names)
    shards = inside(folder, SHARDS)
    for path in list(shards.iterdir()):
        if path.name not in staying and _SHARD_FOLDER.fullmatch(path.name):
            remove_tree(path)
    for path in list(folder.iterdir()):
        if _UNFINISHED_FILE.fullmatch(path.name):
            path.unlink(missing_ok=True)


def existing_parent(path: Path) -> Path:
    """Return the nearest folder above `path` that exists."""
    return next(parent for parent in path.absolute().parents if parent.is_dir())
