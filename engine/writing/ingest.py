"""The loop that building an index and adding to one share: chunk → encode → shard → record.

Each chunk of the input becomes one shard. A shard is on the disk, whole, before the next chunk is
read, so a kill loses one shard at most, and memory holds one chunk.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from hficma.artifacts.manifest import inside
from hficma.limits import printable_path

from ..bundle.bundle import Bundle
from ..index.index_facts import SHARDS, IndexFacts
from .chunks import Chunk, ItemSource
from .encoding_pipeline import BadItemCallback, EncodedBatch, ProgressCallback, encoded_batches
from .photo_settings import PhotoSettings, with_photo_root
from .shard_writer import ShardWriter
from .transaction import new_shard, shard_name, shards_with_items
from .unique_ids import UniqueIds

_log = logging.getLogger("hficma")


class FinishedShards(Protocol):
    """The shards that an earlier, killed run of the same build has finished."""

    def holds(self, name: str, chunk: Chunk) -> bool:
        """Return whether the shard stands, and holds the items of the chunk."""


def write_shards(
    folder: Path,
    facts: IndexFacts,
    source: ItemSource,
    bundle: Bundle,
    unique: UniqueIds,
    *,
    threads: int,
    strict: bool,
    on_bad: BadItemCallback,
    progress: ProgressCallback,
    finished: FinishedShards | None = None,
) -> IndexFacts:
    """Encode a source's items into shards behind those of an index, a chunk a shard.

    No manifest names the new shards yet: until one is written from the facts that are returned, a
    reader does not see them.

    Args:
        folder: of the index, or the one in which it is being built.
        facts: of the index so far.
        source: the items.
        bundle: encodes them.
        unique: passes over items whose id is taken.
        threads: that decode.
        strict: raise on an item that cannot be read instead of leaving it out.
        on_bad: called with a line about each item that is left out.
        progress: called with items read so far and items in all.
        finished: shards that need not be written again; None where there are none.

    Returns:
        the facts with the new shards, without those in which every item was left out.

    Raises:
        InputError: a bad item, if `strict`.
        ArtifactError: a finished shard holds other items than its chunk.
    """
    facts, photos = with_photo_root(facts, folder, source.sample)
    names: list[str] = []
    items = outside = 0
    for chunk in source.chunks():
        name = shard_name(facts.next_shard + len(names))
        if finished is None or not finished.holds(name, chunk):
            outside += write_shard(
                folder, name, facts, chunk, bundle, unique, photos,
                threads=threads, strict=strict, on_bad=on_bad, progress=progress,
            )  # fmt: skip
        unique.shard_done(inside(folder, f"{SHARDS}/{name}"))
        names.append(name)
        items = chunk.stop
        progress(items, chunk.total)
    warn_of_photos_outside(photos, outside)
    return with_shards(facts, folder, names, items)


def write_shard(
    folder: Path,
    name: str,
    facts: IndexFacts,
    chunk: Chunk,
    bundle: Bundle,
    unique: UniqueIds,
    photos: PhotoSettings,
    *,
    threads: int,
    strict: bool,
    on_bad: BadItemCallback,
    progress: ProgressCallback,
    attempt: str = "",
) -> int:
    """Encode the items of a chunk into a shard.

    Args:
        folder: of the index, or the one in which it is being built.
        name: of the shard.
        facts: of the index before its new shards.
        chunk: the items.
        bundle: encodes them.
        unique: passes over items whose id is taken.
        photos: what is noted of the items' photos.
        threads: that decode.
        strict: raise on an item that cannot be read instead of leaving it out.
        on_bad: called with a line about each item that is left out.
        progress: called with items read so far and items in all.
        attempt: as in `new_shard`.

    Returns:
        how many of the items have a photo that the data name outside of their folder.

    Raises:
        InputError: a bad item, if `strict`.
    """
    batches = encoded_batches(
        bundle, facts.role, facts.level, chunk.dataset, chunk.positions,
        photos=photos, views=facts.crops, threads=threads, strict=strict, on_bad=on_bad,
    )  # fmt: skip
    with new_shard(folder, name, facts, attempt=attempt) as writer:
        return _write_batches(writer, chunk, batches, facts.next_number, unique, photos, progress)


def with_shards(facts: IndexFacts, folder: Path, names: Sequence[str], items: int) -> IndexFacts:
    """Return an index's facts with new shards, without those in which every item was left out.

    Args:
        facts: of the index before.
        folder: of the index.
        names: of the shards, in the order of the input.
        items: of the input.
    """
    return replace(
        facts,
        shards=(*facts.shards, *shards_with_items(folder, names)),
        # Also an item that was left out has used up its number, and an empty shard its name: both
        # follow from the place in the input alone, so a resumed build gives the same ones.
        next_number=facts.next_number + items,
        next_shard=facts.next_shard + len(names),
    )


def warn_of_photos_outside(photos: PhotoSettings, outside: int) -> None:
    """Log that items have photos that no answer will show, where any have.

    Args:
        photos: of the dataset.
        outside: how many do.
    """
    if outside:
        _log.warning(
            "%s: photos that the data name outside of this folder, which no answer will show: %d; "
            "put them into it",
            printable_path(photos.folder or ""),
            outside,
        )


def _write_batches(
    writer: ShardWriter,
    chunk: Chunk,
    batches: Iterable[EncodedBatch],
    first_number: int,
    unique: UniqueIds,
    photos: PhotoSettings,
    progress: ProgressCallback,
) -> int:
    """Write a chunk's items, numbered from `first_number` by their place in the input.

    Returns:
        how many of them have a photo that the data name outside of their folder.
    """
    outside = 0
    for batch in batches:
        finite = batch.finite()
        for place in np.flatnonzero(~finite).tolist():
            unique.refuse(batch.recipes[place], "the model makes no finite numbers of it")
        new = finite.copy()
        new[finite] = unique.accept([batch.recipes[place] for place in np.flatnonzero(finite)])
        selected = batch if new.all() else batch.selected(np.flatnonzero(new))
        numbers = first_number + chunk.offset + selected.positions
        writer.append(
            numbers, selected.recipes, selected.vectors, selected.encodings, selected.photos
        )
        outside += photos.outside(selected.recipes, selected.photos)
        progress(chunk.offset + int(batch.positions[-1]) + 1, chunk.total)
    return outside
