"""Bundles of random weights and indexes of drawn vectors, where only speed counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hficma.artifacts.workspace import Workspace
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.encoder import raise_level
from hficma.engine.index.index_facts import IndexFacts, write_index_manifest
from hficma.engine.index.item_encoding import LEVELS, BatchEncodings, Level, Precision
from hficma.engine.writing.shard_writer import ShardWriter
from hficma.engine.writing.transaction import listed_files, new_shard, shard_name
from hficma.recipe import Recipe

from .timing import REGIONS

SEED = 0
WORDS = 500
CLUSTERS = 256
DRAWN_TOGETHER = 512
POOL = 2048
"""Tokens that drawn recipes are made of."""
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
    from hficma.text.word_vectors import WordVectors

    config = ModelConfig(
        width=width, heads=heads, backbone=backbone, global_dim=global_dim,
        word_dim=64, sentence="mean",
    )  # fmt: skip
    rows = np.random.default_rng(SEED).normal(size=(WORDS, 64))
    words = tuple(f"word{number}" for number in range(WORDS))
    vectors = WordVectors.from_rows(words, tuple(range(WORDS, 0, -1)), rows)
    model = build_model(config, vectors, seed=SEED).eval()
    name = f"random-{width}-{model.model_id[:12]}-{'-'.join(precisions)}"
    path = workspace.cache / "bench" / name
    if not path.exists():
        export_model(model, path, precisions=precisions)
    return path


def unit_tokens(count: int, size: int, width: int, rng: np.random.Generator) -> Floats:
    """Tokens as the branches give them: (count, size, width), rows of length one."""
    tokens = rng.standard_normal((count, size, width), dtype=np.float32)
    tokens /= np.linalg.norm(tokens, axis=-1, keepdims=True)
    return tokens


def drawn_recipes(
    count: int, lengths: npt.NDArray[np.int64], width: int, seed: int
) -> BatchEncodings:
    """Recipes at level `tokens` with the given numbers of ingredients."""
    tokens = unit_tokens(count, int(lengths.max()), width, np.random.default_rng(seed))
    tokens[np.arange(tokens.shape[1]) >= lengths[:, None]] = 0.0
    return BatchEncodings(lengths, {"tokens": tokens})


def drawn_photo(width: int, seed: int) -> BatchEncodings:
    """A photo at level `tokens`."""
    tokens = unit_tokens(1, REGIONS, width, np.random.default_rng(seed))
    return BatchEncodings(np.array([REGIONS]), {"tokens": tokens})


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

    Global vectors are drawn around a few hundred centres, as dishes cluster; tokens are picked
    from a few thousand random ones, whose rows at the index's level are computed once.
    """
    if out.exists():
        return out
    opened = Bundle.open(bundle)
    facts = IndexFacts(
        of="recipes", model_id=opened.model_id, bundle=str(bundle.resolve()), dataset=None,
        level=keep, encoding_precision=side_precision, prefilter=prefilter, shard_items=SHARD_ITEMS,
    )  # fmt: skip
    rng = np.random.default_rng(SEED)
    global_dim = opened.facts.global_dim
    centres = rng.standard_normal((CLUSTERS, global_dim), dtype=np.float32)
    pool = TokenPool(opened, keep)
    building = out.with_name(f".{out.name}.building")
    names: list[str] = []
    for start in range(0, count, SHARD_ITEMS):
        names.append(shard_name(len(names)))
        with new_shard(building, names[-1], facts) as writer:
            for first in range(start, min(start + SHARD_ITEMS, count), DRAWN_TOGETHER):
                size = min(DRAWN_TOGETHER, min(start + SHARD_ITEMS, count) - first)
                _append(writer, pool, first, size, centres, rng)
    write_index_manifest(
        building,
        replace(
            facts, shards=tuple(names), next_number=count, next_shard=len(names)
        ),
        listed_files(building, names),
    )  # fmt: skip
    building.rename(out)
    return out


class TokenPool:
    """Random tokens at one level, of which recipes are made without any more arithmetic.

    Everything of a side but its mean is made of each token alone, so a recipe's rows are those of
    its tokens.

    Args:
        bundle: raises tokens to `level`.
        level: of the sides.
    """

    def __init__(self, bundle: Bundle, level: Level) -> None:
        tokens = unit_tokens(POOL, 1, bundle.facts.width, np.random.default_rng(SEED))
        parts = [
            raise_level(
                bundle,
                "recipe",
                BatchEncodings(np.ones(len(part), np.int64), {"tokens": part}),
                level,
            )
            for part in np.split(tokens, range(DRAWN_TOGETHER, POOL, DRAWN_TOGETHER))
        ]
        self._rows = {
            name: np.concatenate([part.arrays[name] for part in parts]) for name in LEVELS[level]
        }

    def recipes(self, lengths: npt.NDArray[np.int64], rng: np.random.Generator) -> BatchEncodings:
        """Recipes of picked tokens, (N,) of them in each."""
        picked = rng.integers(0, POOL, (len(lengths), int(lengths.max())))
        kept = np.arange(picked.shape[1]) < lengths[:, None]
        arrays: dict[str, Floats] = {}
        for name, rows in self._rows.items():
            if name == "mean":
                sums = (rows[picked] * kept[..., None]).sum(axis=1)
                arrays[name] = (sums / lengths[:, None]).astype(np.float32)
            elif name == "table":
                arrays[name] = np.moveaxis(rows[picked][:, :, :, 0], 1, 2)
            else:
                arrays[name] = rows[picked][:, :, 0]
        if "tokens" in arrays:
            arrays["tokens"] *= kept[..., None]
        return BatchEncodings(lengths, arrays)


def _append(
    writer: ShardWriter,
    pool: TokenPool,
    first: int,
    size: int,
    centres: Floats,
    rng: np.random.Generator,
) -> None:
    vectors = centres[rng.integers(0, CLUSTERS, size)]
    vectors = vectors + rng.standard_normal(vectors.shape, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    lengths = rng.choice(REAL_LENGTHS, size).astype(np.int64)
    recipes = [
        Recipe(id=f"drawn-{number}", title=f"Drawn {number}", ingredients=("salt",))
        for number in range(first, first + size)
    ]
    writer.append(np.arange(first, first + size), recipes, vectors, pool.recipes(lengths, rng))
