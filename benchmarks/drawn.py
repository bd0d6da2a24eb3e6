"""Bundles of random weights and indexes of drawn vectors, where only speed counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from hficma.benchmarks.measure import REGIONS
from hficma.engine.bundle import Bundle
from hficma.engine.encode import raise_level
from hficma.engine.index import IndexFacts, write_index_manifest
from hficma.engine.shard import ShardWriter
from hficma.engine.sides import Level, Precision, Sides
from hficma.engine.writing import files_of, new_shard, shard_name
from hficma.recipe import Recipe
from hficma.workspace import Workspace

SEED = 0
WORDS = 500
CLUSTERS = 256
DRAWN_TOGETHER = 512
SHARD_ITEMS = 32_768
REAL_LENGTHS = (5, 7, 8, 9, 10, 12, 14)
"""Ingredients of drawn recipes, one as likely as another: about 9 on average, as in Recipe1M."""

Floats = npt.NDArray[np.float32]


def random_bundle(
    workspace: Workspace,
    *,
    width: int,
    heads: int,
    backbone: str,
    global_dim: int,
    precisions: tuple[str, ...] = ("fp32",),
) -> Path:
    """A bundle of random weights at the given sizes, kept in the workspace's cache."""
    from hficma.export import export_model
    from hficma.model import ModelConfig, build_model
    from hficma.vectors import WordVectors

    name = f"random-{width}-{heads}-{backbone}-{global_dim}-{'-'.join(precisions)}"
    path = workspace.cache / "bench" / name
    if not path.exists():
        config = ModelConfig(
            width=width, heads=heads, backbone=backbone, global_dim=global_dim,
            word_dim=64, sentence="mean",
        )  # fmt: skip
        rows = np.random.default_rng(SEED).normal(size=(WORDS, 64))
        words = tuple(f"word{number}" for number in range(WORDS))
        vectors = WordVectors.from_rows(words, tuple(range(WORDS, 0, -1)), rows)
        model = build_model(config, vectors, seed=SEED).eval()
        export_model(model, path, precisions=precisions)
    return path


def unit_tokens(count: int, size: int, width: int, rng: np.random.Generator) -> Floats:
    """Tokens as the branches give them: (count, size, width), rows of length one."""
    tokens = rng.standard_normal((count, size, width), dtype=np.float32)
    tokens /= np.linalg.norm(tokens, axis=-1, keepdims=True)
    return tokens


def drawn_recipes(count: int, lengths: npt.NDArray[np.int64], width: int, seed: int) -> Sides:
    """Recipes at level `tokens` with the given numbers of ingredients."""
    tokens = unit_tokens(count, int(lengths.max()), width, np.random.default_rng(seed))
    tokens[np.arange(tokens.shape[1]) >= lengths[:, None]] = 0.0
    return Sides(lengths, {"tokens": tokens})


def drawn_photo(width: int, seed: int) -> Sides:
    """A photo at level `tokens`."""
    tokens = unit_tokens(1, REGIONS, width, np.random.default_rng(seed))
    return Sides(np.array([REGIONS]), {"tokens": tokens})


def drawn_index(
    bundle: Path,
    out: Path,
    count: int,
    *,
    keep: Level,
    side_precision: Precision,
    prefilter: str,
) -> Path:
    """An index of recipes that nobody wrote, shard after shard, unless it stands already.

    Global vectors are drawn around a few hundred centres, as dishes cluster; tokens are random.
    """
    if out.exists():
        return out
    opened = Bundle.open(bundle)
    facts = IndexFacts(
        of="recipes", model_id=opened.model_id, bundle=str(bundle.resolve()), dataset=None,
        keep=keep, side_precision=side_precision, prefilter=prefilter, shard_items=SHARD_ITEMS,
    )  # fmt: skip
    rng = np.random.default_rng(SEED)
    global_dim = opened.facts["global_dim"]
    centres = rng.standard_normal((CLUSTERS, global_dim), dtype=np.float32)
    building = out.with_name(f".{out.name}.building")
    names: list[str] = []
    for start in range(0, count, SHARD_ITEMS):
        names.append(shard_name(len(names)))
        with new_shard(building, names[-1], facts) as writer:
            for first in range(start, min(start + SHARD_ITEMS, count), DRAWN_TOGETHER):
                size = min(DRAWN_TOGETHER, min(start + SHARD_ITEMS, count) - first)
                _append(writer, opened, facts, first, size, centres, rng)
    write_index_manifest(
        building,
        IndexFacts(**{**facts.to_json(), "shards": tuple(names), "removed": (),
                      "next_number": count, "next_shard": len(names)}),
        files_of(building, names),
    )  # fmt: skip
    building.rename(out)
    return out


def _append(
    writer: ShardWriter,
    bundle: Bundle,
    facts: IndexFacts,
    first: int,
    size: int,
    centres: Floats,
    rng: np.random.Generator,
) -> None:
    vectors = centres[rng.integers(0, CLUSTERS, size)]
    vectors = vectors + rng.standard_normal(vectors.shape, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    lengths = rng.choice(REAL_LENGTHS, size).astype(np.int64)
    sides = drawn_recipes(size, lengths, bundle.facts["width"], seed=first)
    assert facts.keep is not None
    recipes = [
        Recipe(id=f"drawn-{number}", title=f"Drawn {number}", ingredients=("salt",))
        for number in range(first, first + size)
    ]
    writer.append(
        np.arange(first, first + size), recipes, vectors,
        raise_level(bundle, "recipe", sides, facts.keep),
    )  # fmt: skip
