"""Changing an index: add, remove, compact, safe under readers and kills.

Every change writes new shards beside the old and then one manifest. A reader sees the state
before or after; a killed writer leaves shards that no manifest names, swept by the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np
import numpy.typing as npt

from hficma.artifacts.closing import Closing
from hficma.artifacts.locks import LOCK, locked
from hficma.artifacts.manifest import inside, read_manifest
from hficma.errors import InputError

from ..bundle.bundle import Bundle
from ..index.faiss_factory import check_factory
from ..index.index_facts import (
    KIND,
    SHARDS,
    IndexFacts,
    files_by_shard,
    model_mismatch,
    write_index_manifest,
)
from ..index.shard import Shard
from ..runtimes.options import ExecutionKeywords, ExecutionOptions
from .chunks import Indexed, Source
from .compaction import copy_items, runs_to_merge, tail_to_merge
from .encoding_pipeline import OnBad, Progress, encoded_batches
from .transaction import (
    PLAN,
    building_lock,
    files_of,
    filled,
    new_shard,
    reported,
    shard_name,
    sweep,
    write_batches,
)
from .unique_ids import UniqueIds

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
        try:
            with reported(path, hint=UNTOUCHED):
                self._stack.enter_context(locked(inside(path, LOCK), name=str(path)))
                # Another writer may have ended between the first reading and the lock.
                self._facts = IndexFacts.read(path)
                sweep(path, self._facts.shards)
                for leftover in (path / PLAN, building_lock(path)):  # of a build's last steps
                    leftover.unlink(missing_ok=True)
        except BaseException:
            self._stack.close()
            raise

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
        **execution: Unpack[ExecutionKeywords],
    ) -> int:
        """Encode a dataset's items into new shards, and merge them with small ones before.

        Args:
            dataset: what to add, a dataset or a stream; items whose id the index holds are left
                out.
            bundle: None takes the one that made the index.
            strict: raise on an item that cannot be added instead of leaving it out.
            on_bad: told of each item left out.
            progress: called with items read so far and items in all.
            **execution: `runtime`, `precision`, `device`, `threads` as in `ExecutionOptions`.

        Returns:
            items added.
        """
        options = ExecutionOptions(**execution).with_thread_count()
        opened = Bundle.open(bundle or self._facts.find_bundle(self._path), options)
        facts = self._facts
        if opened.model_id != facts.model_id:
            raise model_mismatch(self._path, facts, opened)
        check_factory(facts.prefilter, opened.facts["global_dim"])
        source = Source(dataset, facts.shard_items)
        names: list[str] = []
        added = stop = 0
        with reported(self._path, hint=UNTOUCHED):
            try:
                unique = UniqueIds(
                    self._shard_folders(), facts.removed, strict=strict, on_bad=on_bad
                )
                for piece in source.pieces():
                    batches = encoded_batches(
                        opened, facts.role, facts.keep, piece.dataset, piece.wanted,
                        threads=options.thread_count, strict=strict, on_bad=on_bad,
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
                if added:
                    longer = replace(
                        facts,
                        shards=(*facts.shards, *filled(self._path, names)),
                        next_number=facts.next_number + stop,
                        next_shard=facts.next_shard + len(names),
                    )
                    self._commit(self._with_merged_tail(longer))
            finally:
                sweep(self._path, self._facts.shards)  # also what an addition that failed wrote
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
        for shard in self._each_shard():
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

        Shards that are full and lost nothing stay as they are, unless older rules wrote the words
        that filters look up.
        """
        facts = self._facts
        kept, outdated = [], []
        for shard in self._each_shard():
            kept.append(self._kept(shard))
            outdated.append(shard.records.outdated)
        held, left = [len(mask) for mask in kept], [int(mask.sum()) for mask in kept]
        runs = runs_to_merge(left, facts.shard_items)
        changed = {
            run
            for run in runs
            if len(run) > 1 or left[run.start] < held[run.start] or outdated[run.start]
        }
        total = sum(held[place] for run in changed for place in run)
        names: list[str] = []
        fresh = facts.next_shard
        done = 0
        with reported(self._path, hint=UNTOUCHED):
            sweep(self._path, facts.shards)
            try:
                for run in runs:
                    old = facts.shards[run.start : run.stop]
                    if run not in changed:
                        names += old
                        continue
                    self._merge(old, shard_name(fresh))
                    names += filled(self._path, [shard_name(fresh)])
                    fresh += 1
                    done += sum(held[place] for place in run)
                    progress(done, total)
                self._commit(replace(facts, shards=tuple(names), removed=(), next_shard=fresh))
            finally:
                # The old shards, or the new ones where the disk took only some of them.
                sweep(self._path, self._facts.shards)

    def _with_merged_tail(self, facts: IndexFacts) -> IndexFacts:
        """Merge the last shards of `facts`, written but not yet committed, if they are small."""
        sizes = (int(self._kept(shard).sum()) for shard in self._each_shard(reversed(facts.shards)))
        count = tail_to_merge(sizes, facts.shard_items)
        if count < 2:
            return facts
        name = shard_name(facts.next_shard)
        gone = self._merge(facts.shards[-count:], name)
        return replace(
            facts,
            shards=(*facts.shards[:-count], *filled(self._path, [name])),
            removed=tuple(number for number in facts.removed if number not in gone),
            next_shard=facts.next_shard + 1,
        )

    def _merge(self, names: Sequence[str], merged: str) -> set[int]:
        """Write the items of some shards that were not removed into one.

        Returns:
            numbers of the removed items that were left behind.
        """
        gone: set[int] = set()
        with new_shard(self._path, merged, self._facts) as writer:
            for shard in self._each_shard(names):
                kept = self._kept(shard)
                copy_items(shard, kept, writer)
                gone.update(shard.numbers[~kept].tolist())
        return gone

    def _kept(self, shard: Shard) -> npt.NDArray[np.bool_]:
        """Which items of a shard were not removed, (N,)."""
        return ~np.isin(shard.numbers, np.array(self._facts.removed, dtype=np.int64))

    def _commit(self, facts: IndexFacts) -> None:
        """Make `facts` the state of the index."""
        known = read_manifest(self._path, kind=KIND).files
        named = set(facts.shards)
        fresh = [name for name in facts.shards if name not in self._facts.shards]
        files = {file: digest for file, digest in known.items() if file.split("/")[1] in named}
        try:
            write_index_manifest(self._path, facts, {**files, **files_of(self._path, fresh)})
        finally:
            # A disk may fail behind the rename: what is swept next must be what stands there.
            self._facts = IndexFacts.read(self._path)

    def _shard_folders(self) -> list[Path]:
        return [self._path / SHARDS / name for name in self._facts.shards]

    def _each_shard(self, names: Iterable[str] | None = None) -> Iterator[Shard]:
        """Open one shard after the other: a thousand need no more descriptors than one."""
        listed = files_by_shard(read_manifest(self._path, kind=KIND).files)
        for name in self._facts.shards if names is None else names:
            # Those just written are in no manifest yet.
            with Shard(inside(self._path, f"{SHARDS}/{name}"), listed.get(name)) as shard:
                yield shard
