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

from hficma.artifacts.closing import Closing
from hficma.artifacts.locks import LOCK, locked
from hficma.artifacts.manifest import inside, read_manifest
from hficma.errors import InputError
from hficma.types import Mask

from ..bundle.bundle import Bundle
from ..index.faiss_factory import check_factory
from ..index.index import removed_numbers
from ..index.index_facts import (
    KIND,
    SHARDS,
    IndexFacts,
    files_by_shard,
    model_mismatch,
    write_index_manifest,
)
from ..index.shard import Shard
from ..index.shard_facts import ShardFacts
from ..runtimes.options import ExecutionKeywords, ExecutionOptions
from .chunks import IndexInput, ItemSource
from .compaction import copy_items, runs_to_merge, tail_to_merge
from .encoding_pipeline import BadItemCallback, ProgressCallback
from .ingest import write_shards
from .transaction import (
    PLAN,
    building_lock,
    explain_disk_errors,
    listed_files,
    new_shard,
    shard_name,
    shards_with_items,
    sweep,
)
from .unique_ids import UniqueIds

RETRY_HINT = "mend that and try again: the index is as it was"


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
            with explain_disk_errors(path, hint=RETRY_HINT):
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
        """Release the lock, so that another writer may open the index."""
        self._stack.close()

    def add(
        self,
        dataset: IndexInput,
        *,
        bundle: Path | None = None,
        strict: bool = False,
        on_bad: BadItemCallback = lambda message: None,
        progress: ProgressCallback = lambda done, total: None,
        **execution: Unpack[ExecutionKeywords],
    ) -> int:
        """Encode a dataset's items into new shards, and merge them with small ones before.

        Args:
            dataset: what to add, a dataset or a stream; items whose id the index holds are left
                out.
            bundle: None takes the one that made the index.
            strict: raise on an item that cannot be added instead of leaving it out.
            on_bad: called with one line about each item that is left out.
            progress: called with items read so far and items in all.
            **execution: `runtime`, `precision`, `device`, `threads` as in `ExecutionOptions`.

        Returns:
            items added.
        """
        options = ExecutionOptions(**execution).with_thread_count()
        open_bundle = Bundle.open(bundle or self._facts.find_bundle(self._path), options)
        facts = self._facts
        if open_bundle.model_id != facts.model_id:
            raise model_mismatch(self._path, facts, open_bundle)
        check_factory(facts.prefilter, open_bundle.facts.global_dim)
        source = ItemSource(dataset, facts.shard_items)
        with explain_disk_errors(self._path, hint=RETRY_HINT):
            try:
                folders = [self._folder(name) for name in facts.shards]
                unique = UniqueIds(folders, facts.removed, strict=strict, on_bad=on_bad)
                extended = write_shards(
                    self._path, facts, source, open_bundle, unique, threads=options.thread_count,
                    strict=strict, on_bad=on_bad, progress=progress,
                )  # fmt: skip
                new_shards = extended.shards[len(facts.shards) :]
                added = sum(ShardFacts.read(self._folder(name)).count for name in new_shards)
                if added:
                    self._commit(self._with_merged_tail(extended))
            finally:
                sweep(self._path, self._facts.shards)  # also what an addition that failed wrote
        return added

    def remove(self, ids: Iterable[str]) -> int:
        """Take items out of the index; their space is freed by `compact`.

        Args:
            ids: of the items' recipes.

        Returns:
            items removed.

        Raises:
            InputError: an id that the index does not hold; nothing is removed then.
        """
        distinct = list(dict.fromkeys(ids))
        removed = set(self._facts.removed)
        numbers: dict[str, int] = {}
        # An id that was removed and added again stands in two shards: only the item that is left
        # counts.
        for shard in self._each_shard():
            for id_, position in shard.records.with_ids(distinct).items():
                number = int(shard.numbers[position])
                if number not in removed:
                    numbers[id_] = number
        if missing := [id_ for id_ in distinct if id_ not in numbers]:
            raise InputError(f"{missing[0]}: no item of {self._path} has this id")
        with explain_disk_errors(self._path, hint=RETRY_HINT):
            self._commit(replace(self._facts, removed=tuple(sorted(removed | {*numbers.values()}))))
        return len(numbers)

    def compact(self, *, progress: ProgressCallback = lambda done, total: None) -> None:
        """Merge shards that removals or small additions left, without encoding anything again.

        Shards that are full and lost nothing stay as they are, unless older rules wrote the words
        that filters look up.

        Args:
            progress: called with items copied so far and items to copy.
        """
        facts = self._facts
        stored, remaining, outdated = [], [], []
        for shard in self._each_shard():
            stored.append(shard.count)
            remaining.append(int(self._remaining(shard).sum()))
            outdated.append(shard.records.outdated)
        runs = runs_to_merge(remaining, facts.shard_items)
        rewritten = {
            run
            for run in runs
            if len(run) > 1 or remaining[run.start] < stored[run.start] or outdated[run.start]
        }
        total = sum(stored[place] for run in rewritten for place in run)
        names: list[str] = []
        next_shard = facts.next_shard
        done = 0
        with explain_disk_errors(self._path, hint=RETRY_HINT):
            sweep(self._path, facts.shards)
            try:
                for run in runs:
                    if run not in rewritten:
                        names += facts.shards[run.start : run.stop]
                        continue
                    merged = shard_name(next_shard)
                    self._merge(facts.shards[run.start : run.stop], merged)
                    names += shards_with_items(self._path, [merged])
                    next_shard += 1
                    done += sum(stored[place] for place in run)
                    progress(done, total)
                self._commit(replace(facts, shards=tuple(names), removed=(), next_shard=next_shard))
            finally:
                # The old shards, or the new ones where the disk took only some of them.
                sweep(self._path, self._facts.shards)

    def _with_merged_tail(self, facts: IndexFacts) -> IndexFacts:
        """Merge the last shards of `facts`, written but not yet committed, if they are small."""
        # Read lazily: of an index of many shards only the small last ones are opened.
        sizes = (
            int(self._remaining(shard).sum()) for shard in self._each_shard(reversed(facts.shards))
        )
        count = tail_to_merge(sizes, facts.shard_items)
        if count < 2:
            return facts
        merged = shard_name(facts.next_shard)
        dropped = self._merge(facts.shards[-count:], merged)
        return replace(
            facts,
            shards=(*facts.shards[:-count], *shards_with_items(self._path, [merged])),
            removed=tuple(number for number in facts.removed if number not in dropped),
            next_shard=facts.next_shard + 1,
        )

    def _merge(self, names: Sequence[str], merged: str) -> set[int]:
        """Write the items of some shards that were not removed into one.

        Returns:
            numbers of the removed items that were left behind.
        """
        dropped: set[int] = set()
        with new_shard(self._path, merged, self._facts) as writer:
            for shard in self._each_shard(names):
                remaining = self._remaining(shard)
                copy_items(shard, remaining, writer)
                dropped.update(shard.numbers[~remaining].tolist())
        return dropped

    def _remaining(self, shard: Shard) -> Mask:
        """Return which items of a shard were not removed, (N,)."""
        return ~np.isin(shard.numbers, removed_numbers(self._facts, shard))

    def _commit(self, facts: IndexFacts) -> None:
        """Make `facts` the state of the index, by one rename of its manifest."""
        old_files = read_manifest(self._path, kind=KIND).files
        # Keys are shards/NAME/FILE; what merged or compacted shards had is dropped.
        files = {
            file: digest for file, digest in old_files.items() if file.split("/")[1] in facts.shards
        }
        new_shards = [name for name in facts.shards if name not in self._facts.shards]
        files.update(listed_files(self._path, new_shards))
        try:
            write_index_manifest(self._path, facts, files)
        finally:
            # A disk may fail behind the rename: what is swept next must be what stands there.
            self._facts = IndexFacts.read(self._path)

    def _folder(self, shard: str) -> Path:
        """Return the folder of the shard of that name."""
        return self._path / SHARDS / shard

    def _each_shard(self, names: Iterable[str] | None = None) -> Iterator[Shard]:
        """Open one shard after the other: a thousand need no more descriptors than one.

        Args:
            names: of the shards; None takes those of the index.
        """
        listed = files_by_shard(read_manifest(self._path, kind=KIND).files)
        for name in self._facts.shards if names is None else names:
            # Those just written are in no manifest yet.
            with Shard(inside(self._path, f"{SHARDS}/{name}"), listed.get(name)) as shard:
                yield shard
