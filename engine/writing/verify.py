"""`verify_index`: whether an index is still what was written."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hficma.artifacts.file_memory import FileMemory
from hficma.artifacts.manifest import inside, read_manifest, sha256
from hficma.data.photos import reduced_photo
from hficma.errors import ArtifactError, InputError
from hficma.images.crops import crops
from hficma.recipe import Recipe

from ..bundle.bundle import Bundle
from ..encoder import EncodedItems, encode_photos, encode_recipes, raise_level
from ..files.file_bytes import unreadable
from ..index.index import Index
from ..index.index_facts import KIND
from ..index.item_encoding import SCALE, dequantise, ragged_rows
from ..index.shard import Shard
from .encoding_pipeline import ProgressCallback

if TYPE_CHECKING:
    from hficma.data.dataset import Dataset

SPOT_CHECKS = 100
"""Items that are encoded again."""
TOLERANCE = 1e-4
"""Allowed difference of a vector encoded again, over its norm: kernels depend on the batch."""

_log = logging.getLogger("hficma")


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The report of `verify_index`."""

    files: int
    """Files whose hash was compared."""
    items: int
    """Items the shards hold, counted in every file."""
    encoded_again: int
    """Items that were encoded again and compared."""
    largest_difference: float
    """Largest distance of a vector encoded again from the stored one, over its norm."""
    problems: tuple[str, ...]
    """What is wrong, a line each; empty for a good index."""


def verify_index(
    path: Path,
    *,
    bundle: Path | None = None,
    dataset: Dataset | None = None,
    spot_checks: int = SPOT_CHECKS,
    progress: ProgressCallback = lambda done, total: None,
) -> Verification:
    """Compare an index's files with their hashes, its counts, and some items with fresh ones.

    Args:
        path: of the index.
        bundle: encodes again; None takes the one that made the index.
        dataset: where photos are read again; an index of photos is not encoded again without.
        spot_checks: items to encode again, spread over the index.
        progress: called with files compared so far and files in all.

    Raises:
        ArtifactError: no index there, or one that cannot be opened.
    """
    manifest = read_manifest(path, kind=KIND)
    problems = []
    for done, (name, digest) in enumerate(manifest.files.items(), 1):
        if problem := _changed(path, name, digest):
            problems.append(problem)
        progress(done, len(manifest.files))
    if problems:
        # A disk loses bits without a new date: forget which files an earlier check found whole.
        FileMemory("index").forget()
        return Verification(
            files=len(manifest.files), items=0, encoded_again=0, largest_difference=0.0,
            problems=tuple(problems),
        )  # fmt: skip
    with (
        Index.open(path) as index,
        Bundle.open(bundle or index.facts.find_bundle(path)) as open_bundle,
    ):
        for shard in index.shards:
            problems += _wrong_counts(shard)
        checked, largest, differing = _spot_checked(index, open_bundle, dataset, spot_checks)
        return Verification(
            files=len(manifest.files), items=index.count, encoded_again=checked,
            largest_difference=largest, problems=(*problems, *differing),
        )  # fmt: skip


def _changed(path: Path, name: str, digest: str) -> str | None:
    """Return what is wrong with a file that the manifest names, or None."""
    try:
        file = inside(path, name)
        if not file.is_file():
            return f"{file}: is missing"
        if sha256(file) != digest:
            return f"{file}: is not as it was written (SHA-256 differs)"
        return None
    except ArtifactError as error:
        return str(error)
    except OSError as error:
        return f"{path / name}: {unreadable(error)}"


def _wrong_counts(shard: Shard) -> list[str]:
    """Return which of a shard's files hold other items than its facts say, a line each."""
    counts = {"vectors": len(shard.vectors), "numbers": len(shard.numbers)}
    if shard.encodings is not None:
        counts["lengths"] = len(shard.encodings.lengths)
    counts["records"] = len(shard.records.ids(range(shard.count)))
    problems = [
        f"{shard.folder}: {count} {name} for {shard.count} items"
        for name, count in counts.items()
        if count != shard.count
    ]
    if shard.encodings is not None and int(shard.encodings.lengths.sum()) != shard.facts.tokens:
        problems.append(f"{shard.folder}: its lengths do not sum to its tokens")
    return problems


def _spot_checked(
    index: Index, bundle: Bundle, dataset: Dataset | None, spot_checks: int
) -> tuple[int, float, list[str]]:
    """Encode some items again; return how many, the largest difference, and what differs."""
    checked, largest, problems = 0, 0.0, []
    # Spread evenly, so that every shard of some size has its share.
    count = min(spot_checks, index.count)
    spread = np.unique(np.linspace(0, index.count - 1, count).astype(int))
    photos = _photo_positions(dataset) if dataset and index.facts.of == "images" else {}
    for number, place in zip(*index.locate(spread), strict=True):
        shard = index.shards[number]
        recipe = shard.records.recipes([int(place)])[int(place)]
        encoded = _encoded_again(bundle, index, recipe, dataset, photos)
        if encoded is None:
            continue
        difference = _difference(bundle, index, shard, int(place), encoded)
        largest = max(largest, difference)
        checked += 1
        if difference > TOLERANCE + _stored_error(shard):
            problems.append(f"{recipe.id}: encoded again it differs by {difference:.1e}")
    return checked, largest, problems


def _photo_positions(dataset: Dataset) -> Mapping[str, int]:
    """Return each recipe's position in the dataset by its id."""
    return {dataset.recipe(position).id: position for position in range(len(dataset))}


def _encoded_again(
    bundle: Bundle,
    index: Index,
    recipe: Recipe,
    dataset: Dataset | None,
    photos: Mapping[str, int],
) -> EncodedItems | None:
    """Return an item as the bundle encodes it now; None for a photo that is not at hand."""
    if index.facts.of == "recipes":
        return encode_recipes(bundle, [bundle.tokenizer(recipe)])
    if dataset is None or recipe.id not in photos:
        return None
    try:
        photo = reduced_photo(dataset, photos[recipe.id], bundle.image_input.least_side)
        views = crops(photo, bundle.image_input, index.facts.crops)
        return encode_photos(bundle, views[None])
    except InputError as error:
        _log.info("%s: is not encoded again (%s)", recipe.id, error)
        return None


def _difference(
    bundle: Bundle, index: Index, shard: Shard, place: int, encoded: EncodedItems
) -> float:
    """Return the largest distance of an item's stored rows from fresh ones, over their norm."""
    pairs = [(shard.vectors[place : place + 1], encoded.vectors)]
    if shard.encodings is not None and encoded.encodings is not None:
        stored = shard.encodings
        fresh = raise_level(bundle, index.facts.role, encoded.encodings, stored.level)
        for name in fresh.arrays:
            rows = stored.rows(name, np.array([place]))
            scales = stored.arrays.get(name + SCALE)
            values = dequantise(stored.arrays[name][rows], None if scales is None else scales[rows])
            pairs.append((values, ragged_rows(fresh, name)))
    return max(
        float(np.linalg.norm(values - exact) / max(float(np.linalg.norm(exact)), 1e-12))
        for values, exact in pairs
    )


def _stored_error(shard: Shard) -> float:
    """Return what storing in fewer bits may have moved an item's rows by, over their norm.

    Recorded is the root mean square over the shard; ten times that leaves room for its worst item.
    """
    return 10 * max((error.relative for error in shard.facts.errors.values()), default=0.0)
