"""An index: a manifest and immutable shards.

The manifest names the shards and the items removed from them; it is replaced by one rename, so
a reader holds one consistent index for as long as it likes.

Items have positions from 0, shard after shard, removed ones too:

    shard 0: 0 1 2 3 | shard 1: 4 5 6 | shard 2: 7 8      shard_offsets = 0 4 7 9
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import ClassVar, Self, TypeVar

import numpy as np

from hficma.artifacts.closing import Closing
from hficma.artifacts.file_memory import FileMemory
from hficma.artifacts.manifest import MANIFEST, inside, read_manifest
from hficma.errors import ArtifactError
from hficma.recipe import Recipe
from hficma.types import Floats, Mask, Offsets, Positions

from ..files.photo_file import PhotoRow
from .candidates import CandidateBatch, ShardCandidates, merge_candidates
from .filters import Filter
from .index_facts import KIND, SHARDS, IndexFacts, files_by_shard
from .item_encoding import ItemArrays
from .photos import PhotoFinder
from .shard import Shard, ShardRecords

OPENING_TRIES = 5
"""How often an index is opened whose shards a writer replaces meanwhile."""

AnyShard = TypeVar("AnyShard", bound=ShardRecords)

_log = logging.getLogger("hficma")


class IndexRecords(Closing):
    """One state of an index, open from any thread for all that is written into answers.

    Attributes:
        count: N, items stored, removed ones too: positions are 0 to N - 1, in the order of the
            items' numbers.
        shard_offsets: (shards + 1,) the position of each shard's first item, and N.
        photos: finds the photos of items.
        verified: whether all that searches read is compared with checksums.

    Raises:
        ArtifactError: the shards are not those of the facts.
    """

    shard_class: ClassVar[type[ShardRecords]] = ShardRecords
    """What is opened of each shard."""

    def __init__(
        self,
        path: Path,
        facts: IndexFacts,
        shards: Sequence[ShardRecords],
        photos: Path | None = None,
    ) -> None:
        self.path = path
        self.photos = PhotoFinder(path, facts.photo_roots, photos)
        self.facts = facts
        self.shards = tuple(shards)
        _check_shards(path, facts, self.shards)
        self.shard_offsets: Offsets = np.cumsum([0, *(shard.count for shard in shards)])
        self.count = int(self.shard_offsets[-1])
        self.verified = all(shard.verified for shard in shards)
        # Per shard, which items were not removed; None where none was, as in most shards.
        self._remaining: list[Mask | None] = []
        for shard in shards:
            removed = removed_numbers(facts, shard)
            self._remaining.append(~np.isin(shard.numbers, removed) if removed else None)
        if self.candidate_count(self._remaining) != self.item_count:
            raise ArtifactError(f"{path}: its {MANIFEST} is damaged (no item has a removed number)")

    @classmethod
    def open(cls, path: Path, *, photos: Path | None = None) -> Self:
        """Open the index at `path`, without reading its large files.

        Args:
            path: of the index.
            photos: where its photos are now, if they were moved; see `PhotoFinder`.

        Raises:
            ArtifactError: no index there, or a damaged one.
        """
        for attempt in range(OPENING_TRIES):
            manifest = read_manifest(path, kind=KIND)
            facts = IndexFacts.of_manifest(path, manifest)
            try:
                shards = open_shards(path, facts, manifest.files, cls.shard_class)
                return cls(path, facts, shards, photos)
            except ArtifactError:
                # A writer may have replaced shards since the manifest was read: then it
                # differs now. Otherwise the index is damaged.
                if attempt == OPENING_TRIES - 1 or IndexFacts.read(path) == facts:
                    raise
                _log.info("%s: changed while it was being opened; opening it again", path)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Release every file; searches that run must have ended."""
        for shard in self.shards:
            shard.close()
        # With the last reference to a shard's arrays their files are unmapped.
        self.shards = ()

    @property
    def item_count(self) -> int:
        """Return how many items were not removed."""
        return self.count - len(self.facts.removed)

    def photo(self, number: int) -> bytes | None:
        """Return the photo of an item as a small JPEG, to be shown.

        Args:
            number: the item's own, as hits have it.

        Returns:
            at most 256 pixels a side, without EXIF; None where the index knows no photo of the
            item, or it cannot be read any more, of which the first is logged.

        Raises:
            ArtifactError: what is kept of it is damaged, or the index was closed.
        """
        row = self._photo_row(number)
        return None if row is None else self.photos.jpeg(row)

    def photo_file(self, number: int) -> Path | None:
        """Return the file of an item's photo; None where it is none of its own, or not known.

        Args:
            number: the item's own, as hits have it.

        Raises:
            ArtifactError: what the index knows of it is damaged, or the index was closed.
            InputError: the file's path leads out of the folder of the photos.
        """
        row = self._photo_row(number)
        return None if row is None else self.photos.file(row)

    def _photo_row(self, number: int) -> PhotoRow | None:
        """Return what is known of the photo of the item of a number."""
        if self.count and not self.shards:
            raise ArtifactError(f"{self.path}: this index was closed; open it again")
        for shard in self.shards:
            # Numbers rise within a shard and from each to the next.
            if number <= shard.last_number:
                position = int(np.searchsorted(shard.numbers, number))
                if shard.photos is None or int(shard.numbers[position]) != number:
                    return None
                return shard.photos.rows([position]).get(position)
        return None

    def filter_masks(self, filter: Filter | None) -> list[Mask | None]:
        """Return per shard which items may answer, (items,); None where all may.

        Args:
            filter: that they must pass; removed items never do.
        """
        if not filter:
            return self._remaining
        if (filter.having or filter.without) and any(s.records.outdated for s in self.shards):
            _log.warning(
                "%s: its words are of older rules, so this filter reads every record; "
                "`hficma index compact` writes them again",
                self.path,
            )
        masks: list[Mask | None] = []
        for shard, remaining in zip(self.shards, self._remaining, strict=True):
            mask = filter.mask(shard.records, shard.count)
            masks.append(mask if remaining is None else mask & remaining)
        return masks

    def candidate_count(self, masks: Sequence[Mask | None]) -> int:
        """Return how many items may answer.

        Args:
            masks: per shard, as `filter_masks` gives them.
        """
        return sum(
            shard.count if mask is None else int(mask.sum())
            for shard, mask in zip(self.shards, masks, strict=True)
        )

    def locate(self, positions: Positions) -> tuple[Positions, Positions]:
        """Return the shard of each item (N,), and its position there (N,).

        Args:
            positions: (N,) in the index.
        """
        shard = np.searchsorted(self.shard_offsets, positions, side="right") - 1
        return shard, positions - self.shard_offsets[shard]

    def find(self, recipe_id: str) -> int | None:
        """Return the position of the item of a recipe's id; None where no item has it any more."""
        for shard, offset, remaining in zip(
            self.shards, self.shard_offsets, self._remaining, strict=False
        ):
            position = shard.records.with_ids([recipe_id]).get(recipe_id)
            if position is not None and (remaining is None or remaining[position]):
                return int(offset) + position
        return None

    def recipe(self, position: int) -> Recipe:
        """Return the recipe of the item at a position."""
        shard, place = (int(one[0]) for one in self.locate(np.array([position])))
        return self.shards[shard].records.recipes([place])[place]


class Index(IndexRecords):
    """One state of an index, open for searching from any thread.

    Attributes:
        item_arrays: what scoring reads of each shard's items.
        exact_item_arrays: the same with exact tokens; empty where none are kept.
    """

    shard_class = Shard
    shards: tuple[Shard, ...]

    def __init__(
        self, path: Path, facts: IndexFacts, shards: Sequence[Shard], photos: Path | None = None
    ) -> None:
        super().__init__(path, facts, shards, photos)
        self.item_arrays = [ItemArrays(shard.vectors, shard.encodings) for shard in shards]
        self.exact_item_arrays: list[ItemArrays] = []
        if facts.exact_tokens:
            self.exact_item_arrays = [
                ItemArrays(shard.vectors, shard.exact_encodings) for shard in shards
            ]

    def close(self) -> None:
        """Release every file; searches that run must have ended."""
        super().close()
        self.item_arrays, self.exact_item_arrays = [], []

    def first_candidates(
        self, queries: Floats, count: int, masks: Sequence[Mask | None], executor: Executor
    ) -> list[CandidateBatch]:
        """Return the best `count` items by the prefilter for each of Q queries.

        Args:
            queries: (Q, D_g) float32.
            count: K, candidates of each query.
            masks: per shard, which items may answer, as `filter_masks` gives them.
            executor: searches the shards, one a task.
        """

        def search(number: int) -> list[ShardCandidates]:
            """Search one shard for all queries."""
            # One more than is returned: its score bounds all that follow.
            return self.shards[number].prefilter.search(queries, count + 1, masks[number])

        by_shard = list(executor.map(search, range(len(self.shards))))
        total = self.candidate_count(masks)
        batches = []
        for i, query in enumerate(queries):
            # Shards lose differently by their narrowed vectors: the worst of them bounds all.
            error = max(
                (shard.prefilter.facts.score_error(query) for shard in self.shards), default=0.0
            )
            of_query = [candidates[i] for candidates in by_shard]
            batches.append(merge_candidates(of_query, self.shard_offsets, count, total, error))
        return batches

    def remaining_candidates(
        self, query: Floats, excluded: Positions, batch_size: int, masks: Sequence[Mask | None]
    ) -> Iterator[CandidateBatch]:
        """Yield every other item by falling exact g, `batch_size` at a time.

        Args:
            query: (D_g,) float32.
            excluded: (K,) positions that came in the first batch.
            batch_size: items a batch.
            masks: per shard, which items may answer, as `filter_masks` gives them.
        """
        scores = np.concatenate([shard.prefilter.scores(query) for shard in self.shards])
        rounding = max(shard.prefilter.rounding_error(query) for shard in self.shards)
        eligible = np.concatenate(
            [
                np.ones(shard.count, bool) if mask is None else mask
                for shard, mask in zip(self.shards, masks, strict=True)
            ]
        )
        eligible[excluded] = False  # no item may be scored, and counted, twice
        positions = np.flatnonzero(eligible)
        positions = positions[np.argsort(-scores[positions], kind="stable")]
        for start in range(0, len(positions), batch_size):
            stop = start + batch_size
            # The first score behind the batch is the largest there; it may be rounded down. Of
            # equal scores any may stand behind: the bound covers them, and equality proves nothing.
            upper_bound = (
                float(scores[positions[stop]]) + rounding if stop < len(positions) else -math.inf
            )
            yield CandidateBatch(positions[start:stop], upper_bound)


def open_shards(
    path: Path, facts: IndexFacts, files: Mapping[str, str], shard_class: type[AnyShard]
) -> list[AnyShard]:
    """Open the shards of an index, as its manifest names them.

    Args:
        path: of the index.
        facts: name the shards.
        files: of the manifest: path in the index to SHA-256.
        shard_class: what to open of each.

    Raises:
        ArtifactError: one is missing or damaged.
    """
    by_shard = files_by_shard(files)
    memory = FileMemory("index")
    return [
        shard_class(inside(path, f"{SHARDS}/{name}"), by_shard.get(name, {}), memory)
        for name in facts.shards
    ]


def removed_numbers(facts: IndexFacts, shard: ShardRecords) -> tuple[int, ...]:
    """Return the removed numbers that a shard's items may have: of those in its run of numbers.

    Args:
        facts: of the index.
        shard: one of its shards, whose runs do not overlap.
    """
    start = bisect_left(facts.removed, shard.first_number)
    return facts.removed[start : bisect_right(facts.removed, shard.last_number)]


def _check_shards(path: Path, facts: IndexFacts, shards: Sequence[ShardRecords]) -> None:
    """Refuse shards that are not of one index, or not of this one."""
    if not shards:
        return
    first = shards[0].facts
    last_number = -1
    for shard in shards:
        shape = shard.facts
        if shape.level != facts.level or (
            shape.level
            and (shape.precision, shape.exact_tokens)
            != (facts.encoding_precision, facts.exact_tokens)
        ):
            raise ArtifactError(f"{shard.folder}: is of another level or precision than {path}")
        if (shape.global_dim, shape.width) != (first.global_dim, first.width) or (
            shape.level == "tables" and shape.heads != first.heads
        ):
            raise ArtifactError(f"{shard.folder}: has vectors of another size than {path}")
        if shard.first_number <= last_number:
            raise ArtifactError(f"{shard.folder}: its items are not behind those before it")
        last_number = shard.last_number
    if last_number >= facts.next_number:
        raise ArtifactError(
            f"{path}: its {MANIFEST} is damaged (next_number is {last_number} or less)"
        )
