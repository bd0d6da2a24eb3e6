"""What an index is (`index_info`), and whether it still is what was written (`verify_index`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hficma.artifacts.file_memory import FileMemory
from hficma.artifacts.manifest import inside, read_manifest, sha256
from hficma.errors import ArtifactError, InputError
from hficma.images import preprocess
from hficma.recipe import Recipe

from ..bundle.bundle import Bundle
from ..encoder import EncodedItems, encode_photos, encode_recipes, raise_level
from ..files.file_bytes import unreadable
from ..index.index import Index
from ..index.index_facts import KIND
from ..index.item_encoding import SCALE, dequantise, ragged_rows
from ..index.shard import Shard
from .encoding_pipeline import Progress

if TYPE_CHECKING:
    from hficma.data.dataset import Dataset

SPOT_CHECKS = 100
TOLERANCE = 1e-4
"""Allowed difference of a vector encoded again, over its norm: kernels depend on the batch."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What `verify_index` found."""

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
    progress: Progress = lambda done, total: None,
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
        # A disk loses bits without a new date: what was found whole before is so no more.
        FileMemory("index").forget()
        return Verification(
            files=len(manifest.files), items=0, encoded_again=0, largest_difference=0.0,
            problems=tuple(problems),
        )  # fmt: skip
    with (
        Index.open(path) as index,
        Bundle.open(bundle or index.facts.find_bundle(path)) as opened,
    ):
        for shard in index.shards:
            problems += _wrong_counts(shard)
        checked, largest, differing = _spot_checked(index, opened, dataset, spot_checks)
        return Verification(
            files=len(manifest.files), items=index.count, encoded_again=checked,
            largest_difference=largest, problems=(*problems, *differing),
        )  # fmt: skip


def _changed(path: Path, name: str, digest: str) -> str | None:
    """Return what is wrong with a file that the manifest names."""
    try:
        file = inside(path, name)
        if not file.is_file():
            return f"{file}: is missing"
        return (
            None
            if sha256(file) == digest
            else (f"{file}: is not as it was written (SHA-256 differs)")
        )
    except ArtifactError as error:
        return str(error)
    except OSError as error:
        return f"{path / name}: {unreadable(error)}"


def _spot_checked(
    index: Index, bundle: Bundle, dataset: Dataset | None, spot_checks: int
) -> tuple[int, float, list[str]]:
    """Encode some items again; return how many, the largest difference, and what differs."""
    checked, largest, problems = 0, 0.0, []
    wanted = np.unique(np.linspace(0, index.count - 1, min(spot_checks, index.count)).astype(int))
    positions = _photo_positions(dataset) if dataset and index.facts.of == "images" else {}
    for number, place in zip(*index.locate(wanted), strict=True):
        shard = index.shards[number]
        recipe = shard.records.recipes([int(place)])[int(place)]
        encoded = _encoded_again(bundle, index.facts.of, recipe, dataset, positions)
        if encoded is None:
            continue
        difference = _difference(bundle, index, shard, int(place), encoded)
        largest = max(largest, difference)
        checked += 1
        if difference > TOLERANCE + _stored_error(shard):
            problems.append(f"{recipe.id}: encoded again it differs by {difference:.1e}")
    return checked, largest, problems


def _wrong_counts(shard: Shard) -> list[str]:
    counts = {"vectors": len(shard.vectors), "numbers": len(shard.numbers)}
    if shard.encodings is not None:
        counts["lengths"] = len(shard.encodings.lengths)
    counts["records"] = len(shard.records.ids(range(shard.count)))
    wrong = [
        f"{shard.folder}: {count} {name} for {shard.count} items"
        for name, count in counts.items()
        if count != shard.count
    ]
    if shard.encodings is not None and int(shard.encodings.lengths.sum()) != shard.facts.tokens:
        wrong.append(f"{shard.folder}: its lengths do not sum to its tokens")
    return wrong


def _photo_positions(dataset: Dataset) -> Mapping[str, int]:
    return {dataset.recipe(position).id: position for position in range(len(dataset))}


def _encoded_again(
    bundle: Bundle,
    of: str,
    recipe: Recipe,
    dataset: Dataset | None,
    positions: Mapping[str, int],
) -> EncodedItems | None:
    if of == "recipes":
        return encode_recipes(bundle, [bundle.tokenizer(recipe)])
    if dataset is None or recipe.id not in positions:
        return None
    try:
        return encode_photos(bundle, preprocess(dataset.photo(positions[recipe.id]))[None])
    except InputError:
        return None  # the photo is gone since; its hash was compared all the same


def _difference(
    bundle: Bundle, index: Index, shard: Shard, place: int, fresh: EncodedItems
) -> float:
    """Largest distance of the item's rows from fresh ones, over their norm."""
    pairs = [(shard.vectors[place : place + 1], fresh.vectors)]
    if shard.encodings is not None and fresh.encodings is not None:
        level = shard.encodings.level
        encodings = raise_level(bundle, index.facts.role, fresh.encodings, level)
        for name in shard.encodings.arrays:
            if not name.endswith(SCALE):
                rows = shard.encodings.rows(name, np.array([place]))
                scales = shard.encodings.arrays.get(name + SCALE)
                kept = dequantise(
                    shard.encodings.arrays[name][rows], None if scales is None else scales[rows]
                )
                pairs.append((kept, ragged_rows(encodings, name)))
    return max(
        float(np.linalg.norm(kept - made) / max(float(np.linalg.norm(made)), 1e-12))
        for kept, made in pairs
    )


def _stored_error(shard: Shard) -> float:
    """What storing may have taken, with room for items worse than the average."""
    return 10 * max((error.relative for error in shard.facts.errors.values()), default=0.0)
