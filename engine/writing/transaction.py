"""Writing shards into an index's folder so that a kill at any moment leaves no half of one."""

from __future__ import annotations

import contextlib
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

_OURS = re.compile(r"\.?\d{6,}(\.part)?")
"""Names of shards and of those in the making."""
_PARTS = re.compile(rf"\.({re.escape(MANIFEST)}|{re.escape(PLAN)})\..+\.part")
"""Names of files beside the shards of which killed writers leave a part."""


def building_folder(out: Path) -> Path:
    """Where the index `out` is built."""
    return out.with_name(f".{out.name}.building")


def building_lock(out: Path) -> Path:
    """What who builds `out` holds; beside the folder, since that is renamed in the end."""
    return out.with_name(f".{out.name}.building.lock")


def shard_name(number: int) -> str:
    """The folder of the shard with that ordinal."""
    return f"{number:06d}"


@contextlib.contextmanager
def reported(path: Path, *, hint: str) -> Iterator[None]:
    """Turn what a disk may answer into one line that names the index and what to do."""
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, sqlite3.OperationalError) else disk_reason(error)
        if reason is None:
            raise
        raise ArtifactError(f"{path}: cannot be written ({reason}); {hint}") from error


@contextlib.contextmanager
def new_shard(folder: Path, name: str, facts: IndexFacts) -> Iterator[ShardWriter]:
    """Write `shards/NAME` beside its place; it is renamed there when the block ends well."""
    part = inside(folder, SHARDS) / f".{name}.part"
    remove_tree(part)
    part.mkdir(parents=True)
    try:
        writer = ShardWriter(part, level=facts.level, precision=facts.encoding_precision)
    except BaseException:
        remove_tree(part)
        raise
    try:
        yield writer
        writer.finish(facts.prefilter)
        part.rename(folder / SHARDS / name)
        sync(folder / SHARDS)
    finally:
        try:
            writer.close()  # writes what is buffered: a full disk refuses that once more
        finally:
            remove_tree(part)


def listed_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Manifest entries, path to SHA-256, of finished shards."""
    files = {}
    for name in names:
        shard = folder / SHARDS / name
        facts = ShardFacts.read(shard)
        files.update({f"{SHARDS}/{name}/{file}": hash_ for file, hash_ in facts.files.items()})
        files[f"{SHARDS}/{name}/{FACTS}"] = sha256(shard / FACTS)
    return files


def shards_with_items(folder: Path, names: Iterable[str]) -> tuple[str, ...]:
    """The shards that hold an item."""
    return tuple(name for name in names if ShardFacts.read(folder / SHARDS / name).count)


def sweep(folder: Path, named: Iterable[str]) -> None:
    """Remove what no manifest names: shards that killed writers and `compact` left, and files.

    Only what has a name that writers give is removed, and of a link only the link itself.

    Raises:
        ArtifactError: the folder of the shards is a link.
    """
    keep = set(named)
    shards = inside(folder, SHARDS)
    for path in list(shards.iterdir()):
        if path.name not in keep and _OURS.fullmatch(path.name):
            remove_tree(path)
    for path in list(folder.iterdir()):
        if _PARTS.fullmatch(path.name):
            path.unlink(missing_ok=True)


def existing_parent(path: Path) -> Path:
    """The nearest folder above `path` that exists."""
    return next(parent for parent in path.absolute().parents if parent.is_dir())
