"""What an index is: the numbers that `hficma index info` shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .index import Index
from .item_encoding import NO_ERROR


def index_info(path: Path) -> dict[str, Any]:
    """Return what an index records of itself, as JSON values.

    Args:
        path: of the index.

    Raises:
        ArtifactError: no index there, or a damaged one.
    """
    with Index.open(path) as index:
        return _info(index)


def _info(index: Index) -> dict[str, Any]:
    """Return what an open index records; the keys are read by scripts, and stay."""
    facts = index.facts
    photos = [shard.facts.photos for shard in index.shards if shard.facts.photos is not None]
    errors: dict[str, Any] = {}
    for shard in index.shards:
        for name, error in shard.facts.errors.items():
            errors[name] = errors.get(name, NO_ERROR).joined(error)
    return {
        "of": facts.of,
        "items": index.item_count,
        "removed": len(facts.removed),
        "keep": facts.level,
        "side_precision": facts.encoding_precision,
        "exact_tokens": facts.exact_tokens,
        "side_errors": {
            name: {"relative_rms": error.relative, "largest": error.largest}
            for name, error in errors.items()
        },
        "prefilter": facts.prefilter,
        "certifies": all(
            shard.facts.prefilter is not None and shard.facts.prefilter.bounded
            for shard in index.shards
        ),
        "checksums": index.verified,
        "photos": {
            "remembered": sum(counts.remembered for counts in photos),
            "kept": sum(counts.kept for counts in photos),
            "roots": index.photos.places,
        },
        "encoding_bytes": sum(shard.encoding_bytes for shard in index.shards),
        "tokens": sum(shard.facts.tokens for shard in index.shards),
        "bytes": sum(shard.bytes for shard in index.shards),
        "shards": [
            {"name": shard.folder.name, "items": shard.count, "bytes": shard.bytes}
            for shard in index.shards
        ],
        "model_id": facts.model_id,
        "bundle": facts.bundle,
        "dataset": facts.dataset,
    }
