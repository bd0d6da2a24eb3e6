"""Writing shards into an index's folder so that a kill at any moment leaves no half of one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from hficma.artifact import sha256
from hficma.errors import ArtifactError, InputError

from . import records
from .index import SHARDS, IndexFacts
from .pipeline import Batch, OnBad
from .records import Records
from .shard import FACTS, Shard, ShardFacts, ShardWriter, sync

LOCK = ".lock"


def shard_name(number: int) -> str:
    """The folder of the shard with that ordinal."""
    return f"{number:06d}"


@contextlib.contextmanager
def locked(folder: Path, *, name: str) -> Iterator[None]:
    """Hold the folder's lock, which the system releases when the process ends in any way.

    Raises:
        ArtifactError: another process holds it.
    """
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArtifactError(
                f"{name}: another process is writing to it; wait until it is done"
            ) from error
        yield


@contextlib.contextmanager
def reported(path: Path, *, hint: str) -> Iterator[None]:
    """Turn what a disk may answer into one line that names the index and what to do."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written ({error.strerror}); {hint}") from error
    except sqlite3.OperationalError as error:
        raise ArtifactError(f"{path}: cannot be written ({error}); {hint}") from error


@contextlib.contextmanager
def new_shard(folder: Path, name: str, facts: IndexFacts) -> Iterator[ShardWriter]:
    """Write `shards/NAME` beside its place; it is renamed there when the block ends well."""
    part = folder / SHARDS / f".{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    writer = ShardWriter(part, level=facts.keep, precision=facts.side_precision)
    try:
        yield writer
        writer.finish(facts.prefilter)
        part.rename(folder / SHARDS / name)
        sync(folder / SHARDS)
    finally:
        writer.close()
        shutil.rmtree(part, ignore_errors=True)


def write_batches(
    writer: ShardWriter,
    batches: Iterable[Batch],
    first_number: int,
    unique: UniqueIds,
    advance: Callable[[int], None],
) -> None:
    """Write a dataset's items, numbered from `first_number` by their place in it.

    Args:
        writer: of the shard.
        batches: encoded items.
        first_number: number of the dataset's first item.
        unique: passes over items whose id is taken.
        advance: told how far in the dataset the writing is.
    """
    for batch in batches:
        kept = unique.kept([recipe.id for recipe in batch.recipes])
        part = batch if kept.all() else batch.selected(np.flatnonzero(kept))
        writer.append(part.positions + first_number, part.recipes, part.vectors, part.sides)
        advance(int(batch.positions[-1]) + 1)


class UniqueIds:
    """Lets each id into an index once.

    Args:
        shards: folders of the shards that stand.
        removed: numbers of items whose ids are free again.
        strict: make a second one an error instead of leaving it out.
        on_bad: told of each one left out.
    """

    def __init__(
        self, shards: Sequence[Path], removed: Sequence[int], *, strict: bool, on_bad: OnBad
    ) -> None:
        self._standing: list[tuple[Records, set[int]]] = []
        for shard in map(Shard, shards):
            gone = np.flatnonzero(np.isin(shard.numbers, np.array(removed, dtype=np.int64)))
            self._standing.append((shard.records, set(gone.tolist())))
        self._fresh: set[str] = set()
        self._strict = strict
        self._on_bad = on_bad

    def kept(self, ids: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which of the next items are new."""
        taken = {
            name
            for standing, gone in self._standing
            for name, position in standing.with_ids(ids).items()
            if position not in gone
        }
        mask = np.ones(len(ids), dtype=bool)
        for place, name in enumerate(ids):
            if name in taken or name in self._fresh:
                message = f"{name}: this id is in the index already"
                if self._strict:
                    raise InputError(message)
                self._on_bad(message)
                mask[place] = False
            self._fresh.add(name)
        return mask

    def shard_done(self, shard: Path) -> None:
        """Ask a finished shard from now on instead of remembering its ids."""
        self._standing.append((Records(shard / records.FILE), set()))
        self._fresh.clear()


def files_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Manifest entries, path to SHA-256, of finished shards."""
    files = {}
    for name in names:
        shard = folder / SHARDS / name
        facts = ShardFacts.read(shard)
        files.update({f"{SHARDS}/{name}/{file}": hash_ for file, hash_ in facts.files.items()})
        files[f"{SHARDS}/{name}/{FACTS}"] = sha256(shard / FACTS)
    return files


def filled(folder: Path, names: Iterable[str]) -> tuple[str, ...]:
    """The shards that hold an item."""
    return tuple(name for name in names if ShardFacts.read(folder / SHARDS / name).count)


def sweep(folder: Path, named: Iterable[str]) -> None:
    """Remove shards that no manifest names: what killed writers and `compact` left."""
    keep = set(named)
    for path in (folder / SHARDS).iterdir():
        if path.name not in keep:
            shutil.rmtree(path, ignore_errors=True)


def existing_parent(path: Path) -> Path:
    """The nearest folder above `path` that exists."""
    return next(parent for parent in path.absolute().parents if parent.is_dir())


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
