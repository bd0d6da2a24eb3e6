"""Random items of a tiny model, and which of them are scored together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from hficma.model.numerics import unit_rows
from hficma.model.similarity import (
    FoldedItemWeights,
    FoldedWeights,
    PaddedEncodings,
    project,
    tabulate,
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """Weights, photos and recipes, and groups of them."""

    weights: FoldedWeights
    image: PaddedEncodings
    recipe: PaddedEncodings
    photos: Tensor
    """(G, B) positions."""
    recipes: Tensor
    """(G, M) positions."""


def random_weights(width: int, heads: int) -> FoldedWeights:
    """Weights whose attention is neither uniform nor one-hot."""

    def item() -> FoldedItemWeights:
        return FoldedItemWeights(
            projection=2 * torch.randn(5 * width, width),
            projection_bias=torch.randn(5 * width) / 4,
            gate_bias=torch.randn(width),
            table=torch.randn(heads, width // heads, width) / (width // heads) ** 0.5,
            fuse_bias=torch.randn(width) / 4,
        )

    return FoldedWeights(
        image=item(),
        recipe=item(),
        match_hidden=torch.randn(width, 2 * width),
        match_hidden_bias=torch.randn(width) / 4,
        match_output=torch.randn(1, width) / width**0.5,
        match_output_bias=torch.randn(1) / 4,
    )


def random_items(lengths: Tensor, weights: FoldedItemWeights) -> PaddedEncodings:
    """Items of unit rows, at `tables`."""
    size, width = int(lengths.max()), weights.projection.shape[1]
    valid = torch.arange(size) < lengths[:, None]
    tokens = unit_rows(torch.randn(len(lengths), size, width)) * valid[..., None]
    return tabulate(project(tokens, lengths, weights), weights)


def make_case(
    *, width: int, heads: int, lengths: tuple[list[int], list[int]], groups: tuple[int, int, int],
    seed: int,
) -> Case:  # fmt: skip
    """Draw a case.

    Args:
        width: D.
        heads: H.
        lengths: tokens of each photo and of each recipe.
        groups: G, B, M.
        seed: of everything random.
    """
    torch.manual_seed(seed)
    weights = random_weights(width, heads)
    count, photos, recipes = groups
    return Case(
        weights=weights,
        image=random_items(torch.tensor(lengths[0]), weights.image),
        recipe=random_items(torch.tensor(lengths[1]), weights.recipe),
        photos=torch.randint(len(lengths[0]), (count, photos)),
        recipes=torch.randint(len(lengths[1]), (count, recipes)),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Cases small enough for the interpreter: some dozen programs."""
    regions = draw(st.sampled_from([1, 4, 9, 17]))
    photos = draw(st.sampled_from([[regions] * 3, [regions, 1, 5]]))
    width, heads = draw(st.sampled_from([(16, 4), (24, 8), (32, 4), (160, 4)]))
    return make_case(
        width=width,
        heads=heads,
        lengths=(photos, draw(st.lists(st.integers(1, 20), min_size=1, max_size=6))),
        groups=draw(st.sampled_from([(1, 1, 1), (1, 1, 7), (3, 1, 2), (2, 3, 1), (1, 3, 5)])),
        seed=draw(st.integers(0, 1000)),
    )
