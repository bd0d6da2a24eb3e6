"""Bundles of random weights, indexes and tokens of random vectors, where only speed counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hficma.artifacts.workspace import Workspace
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.encoder import EncodedItems, raise_level
from hficma.engine.files.ragged import ragged
from hficma.engine.index.index_facts import IndexFacts, write_index_manifest
from hficma.engine.index.item_encoding import (
    SCALE,
    BatchEncodings,
    EncodingPrecision,
    Level,
    quantise,
)
from hficma.engine.writing.transaction import listed_files, new_shard, shard_name
from hficma.recipe import Recipe
from hficma.types import Array, Floats

if TYPE_CHECKING:
    import torch

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
SHORT_RECORD = Recipe(id="", title="Drawn", ingredients=("salt",))
"""What a synthetic recipe says where nobody reads it."""


def random_model(config: ModelConfig, words: int) -> Model:
    """Return a model of random weights, on which speed does not depend, over so many words."""
    from hficma.model import build_model
    from hficma.text.word_vectors import WordVectors

    rows = np.random.default_rng(SEED).normal(size=(words, config.word_dim))
    names = tuple(f"word{number}" for number in range(words))
    vectors = WordVectors.from_rows(names, tuple(range(words, 0, -1)), rows)
    return build_model(config, vectors, seed=SEED).eval()


def random_bundle(workspace: Workspace, width: int, global_dim: int | None = None) -> Path:
    """Return a bundle of random weights, exported unless the workspace's cache holds it.

    Args:
        workspace: whose cache it is.
        width: D.
        global_dim: D_g; None takes D.
    """
    from hficma.export import export_model
    from hficma.model import ImageConfig, ModelConfig

    config = ModelConfig(
        width=width,
        heads=8,
        image=ImageConfig(encoder="tiny"),
        global_dim=global_dim or width,
        word_dim=64,
        sentence="mean",
    )
    model = random_model(config, WORDS)
    path = workspace.cache / "bench" / f"random-{width}-{model.model_id[:12]}-fp32"
    if not path.exists():
        export_model(model, path, precisions=("fp32",))
    return path


def random_tokens(
    lengths: Sequence[int], width: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random tokens (N, T, D) of unit length, zeros behind their own, and lengths (N,)."""
    import torch

    from hficma.model.numerics import unit_rows

    counts = torch.tensor(lengths)
    tokens = unit_rows(torch.randn(len(lengths), max(lengths), width, generator=generator))
    tokens[torch.arange(max(lengths)) >= counts[:, None]] = 0.0
    return tokens, counts


def synthetic_index(
    bundle: Path,
    out: Path,
    count: int,
    *,
    level: Level,
    precision: EncodingPrecision,
    prefilter: str,
    lengths: Sequence[int] = REAL_LENGTHS,
    records: Sequence[Recipe] = (SHORT_RECORD,),
) -> Path:
    """Write an index of recipes that nobody wrote, shard after shard, unless it stands already.

    Global vectors lie around a few hundred centres, as dishes cluster. Tokens are of unit length
    and, like a model's, which come out of a ReLU, never negative.

    Args:
        bundle: whose model the index is of.
        out: its folder.
        count: recipes.
        level: of the stored encodings.
        precision: of the same.
        prefilter: FAISS factory string.
        lengths: ingredients of recipes, drawn from these.
        records: what the recipes say, in turns, but for their ids.
    """
    if out.exists():
        return out
    opened = Bundle.open(bundle)
    facts = IndexFacts(
        of="recipes", model_id=opened.model_id, bundle=str(bundle.resolve()), dataset=None,
        level=level, encoding_precision=precision, prefilter=prefilter, shard_items=SHARD_ITEMS,
    )  # fmt: skip
    rng = np.random.default_rng(SEED + 1)
    centres = _centres(opened)
    pool = _tokens(rng, POOL, opened.facts.width)
    # Stored tokens are drawn as they are stored: to quantise a million recipes takes the longest.
    stored, scales, error = quantise(pool, precision)
    pool_arrays: dict[str, Array] = {"tokens": stored}
    if scales is not None:
        pool_arrays["tokens" + SCALE] = scales
    building = out.with_name(f".{out.name}.building")
    names: list[str] = []
    for start in range(0, count, SHARD_ITEMS):
        stop = min(start + SHARD_ITEMS, count)
        names.append(shard_name(len(names)))
        with new_shard(building, names[-1], facts) as writer:
            for first in range(start, stop, BATCH):
                numbers = np.arange(first, min(first + BATCH, stop))
                recipes = [
                    replace(records[n % len(records)], id=f"drawn-{n}") for n in numbers.tolist()
                ]
                vectors = _around(centres, len(numbers), rng)
                drawn = rng.choice(lengths, len(numbers)).astype(np.int64)
                places = rng.integers(0, POOL, (len(numbers), int(drawn.max())))
                if level == "tokens":
                    of_items = ragged(places, drawn)
                    rows = {name: array[of_items] for name, array in pool_arrays.items()}
                    writer.append_stored(numbers, recipes, vectors, drawn, rows)
                    continue
                tokens = pool[places]
                tokens[np.arange(tokens.shape[1]) >= drawn[:, None]] = 0.0
                encodings = BatchEncodings(drawn, {"tokens": tokens})
                encodings = raise_level(opened, "recipe", encodings, level)
                writer.append(numbers, recipes, vectors, encodings)
            if level == "tokens":
                writer.add_errors({"tokens": error})
    facts = replace(facts, shards=tuple(names), next_number=count, next_shard=len(names))
    write_index_manifest(building, facts, listed_files(building, names))
    building.rename(out)
    return out


def synthetic_photos(bundle: Bundle, count: int) -> EncodedItems:
    """Return what the image branch might give of N photos that search a `synthetic_index`.

    Args:
        bundle: of the index's model.
        count: N.
    """
    rng = np.random.default_rng(SEED + 2)
    facts = bundle.facts
    shape = (count, facts.regions, facts.width)
    tokens = _tokens(rng, *shape)
    lengths = np.full(count, facts.regions, dtype=np.int64)
    vectors = _around(_centres(bundle), count, rng)
    return EncodedItems(vectors, BatchEncodings(lengths, {"tokens": tokens}))


def _tokens(rng: np.random.Generator, *shape: int) -> Floats:
    """Draw tokens (..., D) of unit length, none of their numbers negative."""
    return _unit_rows(np.abs(rng.standard_normal(shape, dtype=np.float32)))


def _centres(bundle: Bundle) -> Floats:
    """Return the places that global vectors lie around, (CLUSTERS, D_g)."""
    shape = (CLUSTERS, bundle.facts.global_dim)
    return np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)


def _around(centres: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Draw N unit vectors, each near a centre: (N, D_g)."""
    vectors = centres[rng.integers(0, CLUSTERS, count)]
    return _unit_rows(vectors + rng.standard_normal(vectors.shape, dtype=np.float32))


def _unit_rows(rows: Floats) -> Floats:
    """Return rows (..., D) at length 1."""
    unit: Floats = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return unit
