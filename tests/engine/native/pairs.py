"""Random pairs as the model's reference scores them, and the same arrays for the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hficma.engine.native.pair_kernel import PairKernel, PairWeights, TileItems
from hficma.model.fusion import CrossFusion
from hficma.model.numerics import unit_rows
from hficma.model.similarity import (
    FoldedItemWeights,
    PaddedEncodings,
    pair_block,
    project,
    tabulate,
)
from hficma.types import Array, Floats, Positions

Level = Literal["tables", "projections", "tokens"]
LEVELS: tuple[Level, ...] = ("tables", "projections", "tokens")
ROWS = ("query", "key", "value", "gate", "fuse", "gate_bias")


class Pairs(NamedTuple):
    """One query, and items of the other role."""

    heads: int
    query_first: bool
    query: dict[str, Array]
    """Its arrays, without padding."""
    items: dict[str, Array]
    """Theirs, ragged: of all levels together."""
    lengths: Array
    weights: dict[str, Floats]
    """Fields of `PairWeights`, those of all levels."""
    scores: Array
    """S_local of each pair, by the reference in float64."""

    def kernel(self, level: Level, kind: str) -> PairKernel:
        """The kernel for items stored at a level."""
        left_out = {
            "tables": ("table", "project", "gate_bias"),
            "projections": ("project", "gate_"),
        }
        fields = {
            name: value
            for name, value in self.weights.items()
            if not name.startswith(left_out.get(level, ("-",)))
        }
        return PairKernel(
            PairWeights(heads=self.heads, **fields),  # type: ignore[arg-type]
            query_first=self.query_first,
            kind=kind,
        )

    def tile(self, level: Level, places: Positions, stored: str = "float32") -> TileItems:
        """Some of the items, at a level, their rows in a type."""
        names = {"tokens": ["tokens"], "tables": [*ROWS, "mean", "table"]}.get(
            level, [*ROWS, "mean"]
        )
        arrays: dict[str, Array] = {name: self.items[name] for name in names}
        scales: dict[str, Floats] = {}
        for name in set(names) - {"mean", "gate_bias"}:
            if stored == "int8":
                scales[name] = (np.abs(arrays[name]).max(axis=1) / 127 + 1e-9).astype(np.float32)
                arrays[name] = np.rint(arrays[name] / scales[name][:, None]).astype(np.int8)
            else:
                arrays[name] = arrays[name].astype(stored)
        first = np.cumsum(self.lengths) - self.lengths
        return TileItems(self.lengths[places], first[places], places, arrays, scales)


def score(kernel: PairKernel, query: dict[str, Array], tiles: Sequence[TileItems]) -> Floats:
    """S_local of a query with the items of tiles."""
    packed = kernel.pack(query)
    counts = [len(tile.lengths) for tile in tiles]
    means = kernel.means(sum(counts))
    for tile, end in zip(tiles, np.cumsum(counts).tolist(), strict=True):
        kernel.fuse(packed, tile, means[end - len(tile.lengths) : end])
    logits = np.empty((len(means), kernel.match_parts), np.float32)
    middle = kernel.match_parts // 2
    kernel.match(means, logits, middle, kernel.match_parts)
    kernel.match(means, logits, 0, middle)
    return kernel.finish(logits)


def random_pairs(
    *, width: int, heads: int, query_length: int, lengths: Sequence[int], photo: bool, seed: int
) -> Pairs:
    """Pairs of random weights; `photo` says whether the query is one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        folded = CrossFusion(width, heads).requires_grad_(False).double().fold()
    # Wider than a new model's, so that attention is not even and gates not half open.
    folded = folded._replace(match_hidden=4 * folded.match_hidden)
    mine, theirs = (folded.image, folded.recipe) if photo else (folded.recipe, folded.image)
    counts = torch.tensor(lengths)

    def items(sizes: Tensor, weights: FoldedItemWeights) -> tuple[Tensor, PaddedEncodings]:
        tokens = torch.randn(len(sizes), int(sizes.max()), width, generator=generator).relu()
        tokens = unit_rows(tokens.double() * 3)
        tokens *= (torch.arange(tokens.shape[1]) < sizes[:, None])[..., None]
        return tokens, tabulate(project(tokens, sizes, weights), weights)

    _, query = items(torch.tensor([query_length]), mine)
    tokens, others = items(counts, theirs)
    both = (query, others) if photo else (others, query)
    image, recipe = (one.grouped((1, -1)) for one in both)
    scores = pair_block(image, recipe, folded).flatten().numpy()

    valid = torch.arange(tokens.shape[1]) < counts[:, None]
    ragged = {name: _floats(getattr(others, name)[valid]) for name in ROWS}
    ragged["tokens"] = _floats(tokens[valid])
    ragged["mean"] = _floats(others.mean)
    assert others.table is not None
    assert query.table is not None
    ragged["table"] = np.concatenate(
        [_floats(others.table[i, :, :n]).reshape(-1, width) for i, n in enumerate(lengths)]
    )
    weights = {
        "query_bias": mine.fuse_bias, "item_bias": theirs.fuse_bias,
        "match_hidden": folded.match_hidden.T, "match_hidden_bias": folded.match_hidden_bias,
        "match_output": folded.match_output[0], "table": theirs.table,
        "projection": theirs.projection.T, "projection_bias": theirs.projection_bias,
        "gate_bias": theirs.gate_bias,
    }  # fmt: skip
    return Pairs(
        heads,
        photo,
        {name: _floats(getattr(query, name)[0]) for name in (*ROWS, "mean", "table")},
        ragged,
        counts.numpy(),
        {name: _floats(tensor) for name, tensor in weights.items()}
        | {"match_output_bias": float(folded.match_output_bias)},  # type: ignore[dict-item]
        scores,
    )


def _floats(tensor: Tensor) -> Floats:
    return np.ascontiguousarray(tensor.float().numpy())
