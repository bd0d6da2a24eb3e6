"""What an index is (`index_info`), and whether it still is what was written (`verify_index`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hficma.artifact import read_manifest, sha256
from hficma.errors import InputError
from hficma.images import preprocess
from hficma.recipe import Recipe

from .bundle import Bundle
from .encode import Encoded, encode_photos, encode_recipes, raise_level
from .index import KIND, SHARDS, Index
from .pipeline import Progress
from .shard import Shard
from .sides import NO_ERROR, SCALE, dequantise, rows_of

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


def index_info(path: Path) -> dict[str, Any]:
    """What an index records of itself, as JSON values.

    Raises:
        ArtifactError: no index there, or a damaged one.
    """
    index = Index.open(path)
    facts = index.facts
    errors: dict[str, Any] = {}
    for shard in index.shards:
        for name, error in shard.facts.errors.items():
            errors[name] = errors.get(name, NO_ERROR).joined(error)
    folder = path / SHARDS
    sizes = {
        name: sum(file.stat().st_size for file in (folder / name).iterdir())
        for name in facts.shards
    }
    return {
        "of": facts.of,
        "items": index.live,
        "removed": len(facts.removed),
        "keep": facts.keep,
        "side_precision": facts.side_precision,
        "side_errors": {
            name: {"relative_rms": error.relative, "largest": error.largest}
            for name, error in errors.items()
        },
        "prefilter": facts.prefilter,
        "certifies": all(
            shard.facts.prefilter is not None and shard.facts.prefilter.bounded
            for shard in index.shards
        ),
        "tokens": sum(shard.facts.tokens for shard in index.shards),
        "bytes": sum(sizes.values()),
        "shards": [
            {"name": shard.folder.name, "items": shard.count, "bytes": sizes[shard.folder.name]}
            for shard in index.shards
        ],
        "model_id": facts.model_id,
        "bundle": facts.bundle,
        "dataset": facts.dataset,
    }


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
        file = path / name
        if not file.is_file():
            problems.append(f"{file}: is missing")
        elif sha256(file) != digest:
            problems.append(f"{file}: is not as it was written (SHA-256 differs)")
        progress(done, len(manifest.files))
    if problems:
        return Verification(
            files=len(manifest.files), items=0, encoded_again=0, largest_difference=0.0,
            problems=tuple(problems),
        )  # fmt: skip
    index = Index.open(path)
    for shard in index.shards:
        problems += _wrong_counts(shard)
    checked, largest = 0, 0.0
    opened = Bundle.open(bundle or index.facts.find_bundle(path))
    wanted = np.unique(np.linspace(0, index.count - 1, min(spot_checks, index.count)).astype(int))
    positions = _photo_positions(dataset) if dataset and index.facts.of == "images" else {}
    for number, place in zip(*index.located(wanted), strict=True):
        shard = index.shards[number]
        recipe = shard.records.recipes([int(place)])[int(place)]
        encoded = _encoded_again(opened, index.facts.of, recipe, dataset, positions)
        if encoded is None:
            continue
        difference = _difference(opened, index, shard, int(place), encoded)
        largest = max(largest, difference)
        checked += 1
        if difference > TOLERANCE + _stored_error(shard):
            problems.append(f"{recipe.id}: encoded again it differs by {difference:.1e}")
    return Verification(
        files=len(manifest.files), items=index.count, encoded_again=checked,
        largest_difference=largest, problems=tuple(problems),
    )  # fmt: skip


def _wrong_counts(shard: Shard) -> list[str]:
    counts = {"vectors": len(shard.vectors), "numbers": len(shard.numbers)}
    if shard.sides is not None:
        counts["lengths"] = len(shard.sides.lengths)
    counts["records"] = len(shard.records.ids(range(shard.count)))
    wrong = [
        f"{shard.folder}: {count} {name} for {shard.count} items"
        for name, count in counts.items()
        if count != shard.count
    ]
    if shard.sides is not None and int(shard.sides.lengths.sum()) != shard.facts.tokens:
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
) -> Encoded | None:
    if of == "recipes":
        return encode_recipes(bundle, [bundle.tokenizer(recipe)])
    if dataset is None or recipe.id not in positions:
        return None
    try:
        return encode_photos(bundle, preprocess(dataset.photo(positions[recipe.id]))[None])
    except InputError:
        return None  # the photo is gone since; its hash was compared all the same


def _difference(bundle: Bundle, index: Index, shard: Shard, place: int, fresh: Encoded) -> float:
    """Largest distance of the item's rows from fresh ones, over their norm."""
    pairs = [(shard.vectors[place : place + 1], fresh.vectors)]
    if shard.sides is not None and fresh.sides is not None:
        level = shard.sides.level
        sides = raise_level(bundle, index.facts.role, fresh.sides, level)
        for name in shard.sides.arrays:
            if not name.endswith(SCALE):
                rows = shard.sides.rows(name, np.array([place]))
                scales = shard.sides.arrays.get(name + SCALE)
                kept = dequantise(
                    shard.sides.arrays[name][rows], None if scales is None else scales[rows]
                )
                pairs.append((kept, rows_of(sides, name)))
    return max(
        float(np.linalg.norm(kept - made) / max(float(np.linalg.norm(made)), 1e-12))
        for kept, made in pairs
    )


def _stored_error(shard: Shard) -> float:
    """What storing may have taken, with room for items worse than the average."""
    return 10 * max((error.relative for error in shard.facts.errors.values()), default=0.0)
