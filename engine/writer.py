"""Changing an index: add, remove, compact, safe under readers and kills.

Every change writes new shards beside the old and then one manifest. A reader sees the state
before or after; a killed writer leaves shards that no manifest names, swept by the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hficma.artifact import read_manifest
from hficma.closing import Closing
from hficma.errors import ArtifactError, InputError

from .bundle import Bundle
from .index import KIND, SHARDS, IndexFacts, write_index_manifest
from .pipeline import OnBad, Progress, encoded_batches
from .shard import Shard, ShardWriter
from .source import Indexed, Source
from .writing import (
    UniqueIds,
    files_of,
    filled,
    locked,
    new_shard,
    processors,
    reported,
    shard_name,
    sweep,
    write_batches,
)

COPIED_TOGETHER = 1024
UNTOUCHED = "mend that and try again: the index is as it was"


class IndexWriter(Closing):
    """The one writer of an index; a second one is refused while this is open.

    Args:
        path: of the index.

    Raises:
        ArtifactError: no index there, or another process writes to it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        self._facts = IndexFacts.read(path)
        with reported(path, hint=UNTOUCHED):
            self._stack.enter_context(locked(path, name=str(path)))
            # Another writer may have ended between the first reading and the lock.
            self._facts = IndexFacts.read(path)
            sweep(path, self._facts.shards)

    def close(self) -> None:
        """Let the next writer in."""
        self._stack.close()

    def add(
        self,
        dataset: Indexed,
        *,
        bundle: Path | None = None,
        strict: bool = False,
        on_bad: OnBad = lambda message: None,
        progress: Progress = lambda done, total: None,
        runtime: str = "auto",
        precision: str = "fp32",
        device: str = "cpu",
        threads: int | None = None,
    ) -> int:
        """Encode a dataset's items into new shards.

        Args:
            dataset: what to add, a dataset or a stream; items whose id the index holds are left
                out.
            bundle: None takes the one that made the index.
            strict: raise on an item that cannot be added instead of leaving it out.
            on_bad: told of each item left out.
            progress: called with items read so far and items in all.
            runtime: see `Bundle.open`, like the options below.
            precision: of the branches.
            device: where they run.
            threads: None takes all processors.

        Returns:
            items added.
        """
        threads = threads or processors()
        opened = Bundle.open(
            bundle or Path(self._facts.bundle),
            runtime=runtime, precision=precision, device=device, threads=threads,
        )  # fmt: skip
        facts = self._facts
        if opened.model_id != facts.model_id:
            raise ArtifactError(f"{self._path}: was made with another model than {bundle}")
        source = Source(dataset, facts.shard_items)
        names: list[str] = []
        added = stop = 0
        with reported(self._path, hint=UNTOUCHED):
            sweep(self._path, facts.shards)  # what an addition that failed left
            unique = UniqueIds(self._shard_folders(), facts.removed, strict=strict, on_bad=on_bad)
            for piece in source.pieces():
                batches = encoded_batches(
                    opened, facts.role, facts.keep, piece.dataset, piece.wanted,
                    threads=threads, strict=strict, on_bad=on_bad,
                )  # fmt: skip
                name = shard_name(facts.next_shard + len(names))
                with new_shard(self._path, name, facts) as writer:
                    write_batches(
                        writer, batches, facts.next_number + piece.first, unique,
                        piece.telling(progress),
                    )  # fmt: skip
                added += writer.count
                unique.shard_done(self._path / SHARDS / name)
                names.append(name)
                stop = piece.stop
            self._commit(
                replace(
                    facts,
                    shards=(*facts.shards, *filled(self._path, names)),
                    next_number=facts.next_number + stop,
                    next_shard=facts.next_shard + len(names),
                )
            )
        return added

    def remove(self, ids: Iterable[str]) -> int:
        """Take items out of the index; their space is freed by `compact`.

        Returns:
            items removed.

        Raises:
            InputError: an id that the index does not hold; nothing is removed then.
        """
        wanted = list(dict.fromkeys(ids))
        removed = set(self._facts.removed)
        found: dict[str, int] = {}
        for shard in self._open_shards():
            for identity, position in shard.records.with_ids(wanted).items():
                number = int(shard.numbers[position])
                if number not in removed:
                    found[identity] = number
        missing = [identity for identity in wanted if identity not in found]
        if missing:
            raise InputError(f"{missing[0]}: no item of {self._path} has this id")
        with reported(self._path, hint=UNTOUCHED):
            self._commit(replace(self._facts, removed=tuple(sorted(removed | set(found.values())))))
        return len(found)

    def compact(self, *, progress: Progress = lambda done, total: None) -> None:
        """Merge shards that removals or small additions left, without encoding anything again.

        Shards that are full and lost nothing stay as they are.
        """
        facts = self._facts
        removed = np.array(facts.removed, dtype=np.int64)
        shards = self._open_shards()
        runs = _runs_to_merge(shards, removed, facts.shard_items)
        total = sum(
            shard.count for run in runs for shard in run if len(run) > 1 or _lost(run[0], removed)
        )
        names: list[str] = []
        fresh = facts.next_shard
        done = 0
        with reported(self._path, hint=UNTOUCHED):
            sweep(self._path, facts.shards)
            for run in runs:
                if len(run) == 1 and not _lost(run[0], removed):
                    names.append(run[0].folder.name)
                    continue
                name = shard_name(fresh)
                fresh += 1
                with new_shard(self._path, name, facts) as writer:
                    for shard in run:
                        _copy(shard, ~np.isin(shard.numbers, removed), writer)
                        done += shard.count
                        progress(done, total)
                names += filled(self._path, [name])
            self._commit(replace(facts, shards=tuple(names), removed=(), next_shard=fresh))
            sweep(self._path, names)

    def _commit(self, facts: IndexFacts) -> None:
        """Make `facts` the state of the index."""
        known = read_manifest(self._path, kind=KIND).files
        fresh = [name for name in facts.shards if name not in self._facts.shards]
        files = {
            file: digest for file, digest in known.items() if file.split("/")[1] in facts.shards
        }
        write_index_manifest(self._path, facts, {**files, **files_of(self._path, fresh)})
        self._facts = facts

    def _shard_folders(self) -> list[Path]:
        return [self._path / SHARDS / name for name in self._facts.shards]

    def _open_shards(self) -> list[Shard]:
        return [Shard(folder) for folder in self._shard_folders()]


def _lost(shard: Shard, removed: npt.NDArray[np.int64]) -> bool:
    return bool(np.isin(shard.numbers, removed).any())


def _runs_to_merge(
    shards: Sequence[Shard], removed: npt.NDArray[np.int64], limit: int
) -> list[list[Shard]]:
    """Neighbouring shards, as many together as stay within `limit` items."""
    runs: list[list[Shard]] = []
    size = 0
    for shard in shards:
        left = shard.count - int(np.isin(shard.numbers, removed).sum())
        if runs and size + left <= limit:
            runs[-1].append(shard)
            size += left
        else:
            runs.append([shard])
            size = left
    return runs


def _copy(shard: Shard, kept: npt.NDArray[np.bool_], writer: ShardWriter) -> None:
    """Write a shard's kept items as they are stored."""
    positions = np.flatnonzero(kept)
    sides = shard.sides
    for start in range(0, len(positions), COPIED_TOGETHER):
        part = positions[start : start + COPIED_TOGETHER]
        recipes = shard.records.recipes(part.tolist())
        writer.append_stored(
            shard.numbers[part],
            [recipes[position] for position in part.tolist()],
            shard.vectors[part],
            sides.lengths[part] if sides else np.zeros(len(part), np.int64),
            {name: rows[sides.rows(name, part)] for name, rows in sides.arrays.items()}
            if sides
            else {},
        )
    writer.add_errors(shard.facts.errors)
