"""Bundles of random weights and indexes of random vectors, where only speed counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hficma.artifacts.workspace import Workspace
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.encoder import raise_level
from hficma.engine.index.index_facts import IndexFacts, write_index_manifest
from hficma.engine.index.item_encoding import BatchEncodings, EncodingPrecision, Level
from hficma.engine.writing.transaction import listed_files, new_shard, shard_name
from hficma.recipe import Recipe

if TYPE_CHECKING:
    from hficma.model import Model, ModelConfig


SEED = 0
WORDS = 500
CLUSTERS = 256
BATCH = 512
POOL = 4096
"""Random tokens that recipes are put together of: drawing new ones would take the longest."""
SHARD_ITEMS = 32_768
REAL_LENGTHS = (5, 7, 8, 9, 10, 12, 14)
"""Ingredients of recipes, one as likely as another: about 9 on average, as in Recipe1M."""


def random_model(config: ModelConfig, words: int) -> Model:
    """Return a model of random weights, on which speed does not depend, over so many words."""
    from hficma.model import build_model
    from hficma.text.word_vectors import WordVectors

    rows = np.random.default_rng(SEED).normal(size=(words, config.word_dim))
    names = tuple(f"word{number}" for number in range(words))
    vectors = WordVectors.from_rows(names, tuple(range(words, 0, -1)), rows)
    return build_model(config, vectors, seed=SEED).eval()


def random_bundle(workspace: Workspace, width: int) -> Path:
    """Return a bundle of random weights, exported unless the workspace's cache holds it."""
    from hficma.export import export_model
    from hficma.model import ImageConfig, ModelConfig

    config = ModelConfig(
        width=width,
        heads=8,
        image=ImageConfig(encoder="tiny"),
        global_dim=width,
        word_dim=64,
        sentence="mean",
    )
    model = random_model(config, WORDS)
    path = workspace.cache / "bench" / f"random-{width}-{model.model_id[:12]}-fp32"
    if not path.exists():
        export_model(model, path, precisions=("fp32",))
    return path


def synthetic_index(
    bundle: Path,
    out: Path,
    count: int,
    *,
    level: Level,
    precision: EncodingPrecision,
    prefilter: str,
    lengths: Sequence[int] = REAL_LENGTHS,
) -> Path:
    """Write an index of recipes that nobody wrote, shard after shard, unless it stands already.

    Global vectors lie around a few hundred centres, as dishes cluster.

    Args:
        bundle: whose model the index is of.
        out: its folder.
        count: recipes.
        level: of the stored encodings.
        precision: of the same.
        prefilter: FAISS factory string.
        lengths: ingredients of recipes, drawn from these.
    """
    if out.exists():
        return out
    opened = Bundle.open(bundle)
    facts = IndexFacts(
        of="recipes", model_id=opened.model_id, bundle=str(bundle.resolve()), dataset=None,
        level=level, encoding_precision=precision, prefilter=prefilter, shard_items=SHARD_ITEMS,
    )  # fmt: skip
    rng = np.random.default_rng(SEED)
    centres = rng.standard_normal((CLUSTERS, opened.facts.global_dim), dtype=np.float32)
    pool = rng.standard_normal((POOL, opened.facts.width), dtype=np.float32)
    pool /= np.linalg.norm(pool, axis=-1, keepdims=True)
    building = out.with_name(f".{out.name}.building")
    names: list[str] = []
    for start in range(0, count, SHARD_ITEMS):
        stop = min(start + SHARD_ITEMS, count)
        names.append(shard_name(len(names)))
        with new_shard(building, names[-1], facts) as writer:
            for first in range(start, stop, BATCH):
                numbers = np.arange(first, min(first + BATCH, stop))
                recipes = [
                    Recipe(id=f"drawn-{n}", title=f"Drawn {n}", ingredients=("salt",))
                    for n in numbers.tolist()
                ]
                vectors = centres[rng.integers(0, CLUSTERS, len(numbers))]
                vectors = vectors + rng.standard_normal(vectors.shape, dtype=np.float32)
                vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
                drawn = rng.choice(lengths, len(numbers)).astype(np.int64)
                tokens = pool[rng.integers(0, POOL, (len(numbers), int(drawn.max())))]
                tokens[np.arange(tokens.shape[1]) >= drawn[:, None]] = 0.0
                encodings = BatchEncodings(drawn, {"tokens": tokens})
                encodings = raise_level(opened, "recipe", encodings, level)
                writer.append(numbers, recipes, vectors, encodings)
    facts = replace(facts, shards=tuple(names), next_number=count, next_shard=len(names))
    write_index_manifest(building, facts, listed_files(building, names))
    building.rename(out)
    return out
