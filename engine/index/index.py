"""An index: a manifest and immutable shards.

The manifest names the shards and the items removed from them; it is replaced by one rename, so
a reader holds one consistent index for as long as it likes.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

from hficma.artifacts.closing import Closing
from hficma.artifacts.json_fields import Fields, integer, text
from hficma.artifacts.manifest import MANIFEST, Manifest, inside, read_manifest, write_manifest
from hficma.artifacts.workspace import find_bundle
from hficma.errors import ArtifactError

from ..files.checksums import Verified
from .candidates import CandidateBatch
from .filters import Filter
from .item_encoding import LEVELS, PRECISIONS, ItemArrays, Level, Precision, Role
from .shard import Shard
from .vector_index import Mask, ShardCandidates, Vectors

if TYPE_CHECKING:
    from ..bundle.bundle import Bundle

KIND = "index"
SHARDS = "shards"
MADE_BY = "hficma index"
OPENING_TRIES = 5
SHARD_NAME = re.compile(r"\d{6,12}")
"""What a shard's folder may be called: names become paths."""

ItemKind = Literal["recipes", "images"]
_log = logging.getLogger("hficma")

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class IndexFacts:
    """What an index's manifest records."""

    of: ItemKind
    """What its items are: recipes answer photos, photos answer recipes."""
    model_id: str
    """Of the bundle that encoded it, and of every bundle that may search it."""
    bundle: str
    """Where that bundle was, relative to the index; absolute in those of older versions."""
    dataset: str | None
    """What was indexed first, as `open_dataset` takes it."""
    keep: Level | None
    """Level of the sides; None for a model without a local part."""
    side_precision: Precision
    """Of the sides' wide arrays."""
    prefilter: str
    """FAISS factory string of new shards."""
    shard_items: int
    """Items a shard is cut at."""
    shards: tuple[str, ...] = ()
    """Folders under `shards`, in the order of their items' numbers."""
    removed: tuple[int, ...] = ()
    """Numbers of items that are no longer there, rising."""
    next_number: int = 0
    """The number of the next item; numbers are never given twice."""
    next_shard: int = 0
    """The next shard's name; names are never given twice."""

    @property
    def role(self) -> Role:
        """What its items are, as a side's role."""
        return "recipe" if self.of == "recipes" else "image"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def find_bundle(self, path: Path) -> Path:
        """Where the bundle of the index at `path` is now; see `workspace.find_bundle`."""
        return find_bundle(path, recorded=self.bundle, model_id=self.model_id)

    @classmethod
    def read(cls, path: Path) -> IndexFacts:
        """Read the facts of the index at `path`.

        Raises:
            ArtifactError: no index there, or a damaged one.
        """
        return cls.of_manifest(path, read_manifest(path, kind=KIND))

    @classmethod
    def of_manifest(cls, path: Path, manifest: Manifest) -> IndexFacts:
        """Read the facts out of the manifest of the index at `path`.

        Raises:
            ArtifactError: they are not what an index records.
        """
        try:
            return cls._parsed(
                Fields(manifest.facts, "facts", {field.name for field in fields(cls)})
            )
        except ValueError as error:
            raise ArtifactError(f"{path}: its {MANIFEST} is damaged ({error})") from error

    @classmethod
    def _parsed(cls, record: Fields) -> IndexFacts:
        facts = cls(
            of=cast(ItemKind, record.text("of", ("recipes", "images"))),
            model_id=record.text("model_id"),
            bundle=record.text("bundle"),
            dataset=record.optional_text("dataset"),
            keep=cast("Level | None", record.optional_text("keep", LEVELS)),
            side_precision=cast(Precision, record.text("side_precision", PRECISIONS)),
            prefilter=record.text("prefilter"),
            shard_items=record.integer("shard_items", 1),
            shards=tuple(text(name, "a shard") for name in record.sequence("shards")),
            removed=tuple(integer(one, "removed") for one in record.sequence("removed")),
            next_number=record.integer("next_number"),
            next_shard=record.integer("next_shard"),
        )
        for name in facts.shards:
            if not SHARD_NAME.fullmatch(name):
                raise ValueError(f"{name[:40]!r} is no shard's name")
        if len(set(facts.shards)) < len(facts.shards):
            raise ValueError("a shard stands in it twice")
        if any(a >= b for a, b in pairwise((-1, *facts.removed, facts.next_number))):
            raise ValueError("the numbers of removed items do not rise below next_number")
        return facts


def write_index_manifest(path: Path, facts: IndexFacts, files: dict[str, str]) -> None:
    """Make `facts` what the directory at `path` is, by one rename."""
    write_manifest(path, Manifest(kind=KIND, made_by=MADE_BY, files=files, facts=facts.to_json()))


def model_mismatch(path: Path, facts: IndexFacts, bundle: Bundle) -> ArtifactError:
    """What is raised where a bundle is not of the index's model."""
    return ArtifactError(
        f"{path}: was made with model {facts.model_id[:12]} "
        f"({(path / facts.bundle).resolve()}), and the bundle {bundle.path} is of another model, "
        f"{bundle.model_id[:12]}; give a bundle of the first, or index again with this one"
    )


class Index(Closing):
    """One state of an index, open for reading from any thread.

    Items have positions 0 .. `count`, by rising number; removed ones keep theirs.

    Raises:
        ArtifactError: the shards are not those of the facts.
    """

    def __init__(self, path: Path, facts: IndexFacts, shards: Sequence[Shard]) -> None:
        self.path = path
        self.facts = facts
        self.shards = tuple(shards)
        _check_shards(path, facts, self.shards)
        self.item_arrays = [ItemArrays(shard.vectors, shard.encodings) for shard in shards]
        self.shard_offsets = np.cumsum([0, *(shard.count for shard in shards)])
        self.count = int(self.shard_offsets[-1])
        self.verified = all(shard.verified for shard in shards)
        """Whether all that searches read is compared with checksums."""
        removed = np.array(facts.removed, dtype=np.int64)
        self._kept: list[Mask | None] = []
        for shard in shards:
            gone = np.isin(shard.numbers, removed) if len(removed) else np.zeros(0, bool)
            self._kept.append(~gone if gone.any() else None)

    @classmethod
    def open(cls, path: Path) -> Index:
        """Open the index at `path`, without reading its large files.

        Raises:
            ArtifactError: no index there, or a damaged one.
        """
        for attempt in range(OPENING_TRIES):
            manifest = read_manifest(path, kind=KIND)
            facts = IndexFacts.of_manifest(path, manifest)
            try:
                return cls(path, facts, open_shards(path, facts, manifest.files))
            except ArtifactError:
                # A writer may have replaced shards since the manifest was read: then it
                # differs now. Otherwise the index is damaged.
                if attempt == OPENING_TRIES - 1 or IndexFacts.read(path) == facts:
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Let go of every file; searches that run must have ended."""
        for shard in self.shards:
            shard.close()
        self.shards, self.item_arrays = (), []

    @property
    def item_count(self) -> int:
        """Items that were not removed."""
        return self.count - len(self.facts.removed)

    def filter_masks(self, wanted: Filter | None) -> list[Mask | None]:
        """Per shard, which items may answer; None where all may."""
        if not wanted:
            return self._kept
        if (wanted.having or wanted.without) and any(s.records.outdated for s in self.shards):
            _log.warning(
                "%s: its words are of older rules, so this filter reads every record; "
                "`hficma index compact` writes them again",
                self.path,
            )
        masks: list[Mask | None] = []
        for shard, kept in zip(self.shards, self._kept, strict=True):
            mask = wanted.mask(shard.records, shard.count)
            masks.append(mask if kept is None else mask & kept)
        return masks

    def locate(self, positions: Positions) -> tuple[Positions, Positions]:
        """The shard of each item (N,), and its position there (N,)."""
        shard = np.searchsorted(self.shard_offsets, positions, side="right") - 1
        return shard, positions - self.shard_offsets[shard]

    def first_candidates(
        self, queries: Vectors, count: int, masks: Sequence[Mask | None], executor: Executor
    ) -> list[CandidateBatch]:
        """Return the best `count` items by the prefilter for each of Q queries.

        Args:
            queries: (Q, D_g) float32.
            count: items wanted.
            masks: per shard, which items may answer, as `filter_masks` gives them.
            executor: searches the shards, one a task.
        """

        def search(number: int) -> list[ShardCandidates]:
            # One more than is returned: its score bounds all that follow.
            return search_shard(self.shards[number], queries, count + 1, masks[number])

        by_shard = list(executor.map(search, range(len(self.shards))))
        total = self.candidate_count(masks)
        batches = []
        for i, query in enumerate(queries):
            error = max(
                (shard.prefilter.facts.score_error(query) for shard in self.shards), default=0.0
            )
            of_query = [candidates[i] for candidates in by_shard]
            batches.append(merge_candidates(of_query, self.shard_offsets, count, total, error))
        return batches

    def candidate_count(self, masks: Sequence[Mask | None]) -> int:
        """Return how many items may answer, given the masks of `filter_masks`."""
        return sum(
            shard.count if mask is None else int(mask.sum())
            for shard, mask in zip(self.shards, masks, strict=True)
        )

    def remaining_candidates(
        self, query: Vectors, excluded: Positions, batch_size: int, masks: Sequence[Mask | None]
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
        eligible[excluded] = False
        positions = np.flatnonzero(eligible)
        positions = positions[np.argsort(-scores[positions], kind="stable")]
        for start in range(0, len(positions), batch_size):
            stop = start + batch_size
            # The first score behind the batch is the largest there; it may be rounded down.
            upper_bound = (
                float(scores[positions[stop]]) + rounding if stop < len(positions) else -math.inf
            )
            yield CandidateBatch(positions[start:stop], upper_bound)


def open_shards(path: Path, facts: IndexFacts, files: Mapping[str, str]) -> list[Shard]:
    """Open the shards of an index, as its manifest has them.

    Args:
        path: of the index.
        facts: name the shards.
        files: path in the index to SHA-256.

    Raises:
        ArtifactError: one is missing or damaged.
    """
    listed = files_by_shard(files)
    verified = Verified()
    return [
        Shard(inside(path, f"{SHARDS}/{name}"), listed.get(name, {}), verified)
        for name in facts.shards
    ]


def files_by_shard(files: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return what a manifest lists of each shard: name to file to SHA-256."""
    listed: dict[str, dict[str, str]] = {}
    for file, digest in files.items():
        folder, _, rest = file.partition("/")
        name, _, within = rest.partition("/")
        if folder == SHARDS:
            listed.setdefault(name, {})[within] = digest
    return listed


def _check_shards(path: Path, facts: IndexFacts, shards: Sequence[Shard]) -> None:
    """Refuse shards that are not of one index, or not of this one."""
    if not shards:
        return
    first = shards[0].facts
    last = -1
    for shard in shards:
        mine = shard.facts
        if mine.level != facts.keep or (mine.level and mine.precision != facts.side_precision):
            raise ArtifactError(f"{shard.folder}: is of another level or precision than {path}")
        if (mine.global_dim, mine.width) != (first.global_dim, first.width) or (
            mine.level == "tables" and mine.heads != first.heads
        ):
            raise ArtifactError(f"{shard.folder}: has vectors of another size than {path}")
        if int(shard.numbers[0]) <= last:
            raise ArtifactError(f"{shard.folder}: its items are not behind those before it")
        last = int(shard.numbers[-1])
    if last >= facts.next_number:
        raise ArtifactError(f"{path}: its {MANIFEST} is damaged (next_number is {last} or less)")
    if facts.removed:
        held = np.concatenate([shard.numbers for shard in shards])
        if not np.isin(np.array(facts.removed, np.int64), held).all():
            raise ArtifactError(f"{path}: its {MANIFEST} is damaged (no item has a removed number)")


def search_shard(
    shard: Shard, queries: Vectors, count: int, allowed: Mask | None
) -> list[ShardCandidates]:
    """The best `count` items of one shard for each query, by its prefilter."""
    return shard.prefilter.search(queries, count, allowed)


def merge_candidates(
    found: Sequence[ShardCandidates], starts: Positions, count: int, total: int, error: float
) -> CandidateBatch:
    """The best `count` items of all shards, from the best `count` + 1 of each.

    Args:
        found: per shard.
        starts: the position of each shard's first item.
        count: items wanted.
        total: items that may be found in all shards.
        error: δ, how far scores may be from g; inf where items may have been skipped.
    """
    positions = np.concatenate(
        [part.positions + start for part, start in zip(found, starts[:-1], strict=True)]
        or [np.empty(0, np.int64)]
    )
    scores = np.concatenate([part.scores for part in found] or [np.empty(0, np.float32)])
    order = np.lexsort((positions, -scores))
    items = positions[order[:count]]
    if len(items) == total:
        return CandidateBatch(items, -math.inf)
    upper_bound = float(scores[order[count]]) + error if len(order) > count else math.inf
    return CandidateBatch(items, upper_bound)
