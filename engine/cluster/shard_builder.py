"""An actor of a build: reads blocks of a dataset, encodes them, and writes a shard of each.

A shard is written where its items are encoded: the arrays of an item are hundreds of times larger
than its recipe, and never leave the machine but for the shared folder.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from hficma.artifacts.manifest import inside
from hficma.artifacts.unfinished import remove_tree
from hficma.data.dataset import Dataset, open_dataset
from hficma.data.subset import Subset
from hficma.errors import ArtifactError, HficmaError, InputError

from ..bundle.bundle import Bundle
from ..index.index_facts import SHARDS, IndexFacts
from ..runtimes.options import ExecutionKeywords, ExecutionOptions
from ..writing.build import RESUME_HINT
from ..writing.chunks import Chunk
from ..writing.ingest import write_shard
from ..writing.photo_settings import PhotoSettings
from ..writing.transaction import explain_disk_errors, shard_name
from ..writing.unfinished_build import UnfinishedBuild
from ..writing.unique_ids import UniqueIds
from .duplicates import hash_ids

Row: TypeAlias = dict[str, Any]
"""A row of a Ray dataset."""


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """A dataset in blocks, each of which becomes a shard."""

    data: str
    """As `open_dataset` takes it, at the same place on every machine."""
    partitions: tuple[str, ...]
    """Only items of these are read; empty for all."""
    items: int
    """Items in all, by which a machine notices that it reads other data."""
    block_items: int
    """Items a block."""

    def open(self) -> Dataset:
        """Open the dataset.

        Raises:
            InputError: it is not there, or has other items than the machine saw that began.
        """
        dataset = open_blocks_data(self.data, self.partitions)
        if len(dataset) != self.items:
            raise InputError(
                f"{self.data}: has {len(dataset):,} items on one machine and {self.items:,} on "
                "another; all of them must read the same data"
            )
        return dataset

    def chunk(self, dataset: Dataset, number: int) -> Chunk:
        """Return a block as the chunk of an index's input."""
        start = number * self.block_items
        stop = min(start + self.block_items, self.items)
        return Chunk(dataset, range(start, stop), 0, self.items)


@dataclass(frozen=True, kw_only=True)
class BuildTask:
    """What a shard builder works on."""

    blocks: Blocks
    """The input."""
    out: Path
    """Where the index will stand; it is built beside that, in a folder that machines share."""
    facts: IndexFacts
    """Of the index without its shards."""
    photos: PhotoSettings
    """What is noted of items' photos."""
    bundle: Path
    """Folder of the bundle, at the same place on every machine."""
    execution: ExecutionKeywords
    """How to run the branches."""
    strict: bool
    """Whether a bad item is an error."""


def open_blocks_data(
    data: str,
    partitions: Sequence[str],
    *,
    strict: bool = False,
    on_bad: Callable[[str], None] | None = None,
) -> Dataset:
    """Open a dataset, or some partitions of it.

    Args:
        data: as `open_dataset` takes it.
        partitions: to read; empty for all.
        strict: make a bad record an error.
        on_bad: called with one line for each record left out.
    """
    dataset = open_dataset(data, strict=strict, on_bad=on_bad)
    return Subset.of_partitions(dataset, list(partitions)) if partitions else dataset


class IdReader:
    """Reads the hashes of the ids of blocks.

    Args:
        blocks: of the dataset.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._dataset: Dataset | None = None

    def __call__(self, row: Row) -> Row:
        """Return a block's hashes.

        Args:
            row: `chunk`, the number of the block.
        """
        with _errors(row):
            if self._dataset is None:
                self._dataset = self._blocks.open()
            chunk = self._blocks.chunk(self._dataset, int(row["chunk"]))
            row["hashes"] = hash_ids(readable_ids(chunk))
        return row


class ShardBuilder:
    """Writes the shards of blocks; runs in an actor of Ray Data's.

    Args:
        task: what to build.
    """

    def __init__(self, task: BuildTask) -> None:
        self._task = task
        self._dataset: Dataset | None = None
        self._bundle: Bundle | None = None

    def __call__(self, row: Row) -> Row:
        """Write the shard of a block, unless it stands.

        Args:
            row: `chunk`, the number of the block; `before`, the ids that it shall leave out;
                `again`, whether a shard that stands is wrong.

        Returns:
            the row with `outside`, items whose photo lies outside of its folder, `notes`, a line
            about each item that was left out, and `kind` and `error` where it failed.
        """
        task = self._task
        notes: list[str] = []
        row["outside"], row["notes"] = 0, notes
        with _errors(row), explain_disk_errors(task.out, hint=RESUME_HINT):
            options = ExecutionOptions(**task.execution).with_thread_count()
            # Here and not when the actor starts: what is wrong is said, and not tried for ever.
            if self._dataset is None or self._bundle is None:
                self._dataset = task.blocks.open()
                self._bundle = Bundle.open(task.bundle, options)
            number = int(row["chunk"])
            chunk, name = task.blocks.chunk(self._dataset, number), shard_name(number)
            build = UnfinishedBuild(task.out)
            if row["again"]:
                remove_tree(inside(build.folder, f"{SHARDS}/{name}"))
            if not build.holds(name, chunk):
                unique = UniqueIds(
                    [], (), strict=task.strict, on_bad=notes.append, before=row["before"]
                )
                row["outside"] = write_shard(
                    build.folder, name, task.facts, chunk, self._bundle, unique, task.photos,
                    threads=options.thread_count, strict=task.strict, on_bad=notes.append,
                    progress=lambda done, total: None, attempt=secrets.token_hex(4),
                )  # fmt: skip
        return row


def readable_ids(chunk: Chunk) -> Iterator[str]:
    """Yield the ids of a chunk's recipes that can be read."""
    for position in chunk.positions:
        try:
            yield chunk.dataset.recipe(position).id
        except InputError:  # told of when it is its turn to be encoded
            continue


@contextmanager
def _errors(row: Row) -> Iterator[None]:
    """Put an error that a user can mend into a row: as an exception Ray Data would try it again."""
    row["kind"], row["error"] = "", ""
    try:
        yield
    except HficmaError as error:
        row["kind"], row["error"] = type(error).__name__, str(error)


def raise_error(row: Row) -> None:
    """Raise the error of a row, if it has one.

    Raises:
        InputError: an item, the data or an option.
        ArtifactError: the index, the bundle or the disk.
    """
    if row["error"]:
        kinds: dict[str, type[HficmaError]] = {
            kind.__name__: kind for kind in (InputError, ArtifactError)
        }
        raise kinds.get(row["kind"], HficmaError)(row["error"])
