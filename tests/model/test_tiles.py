"""Scoring in tiles, held to `pair_block`, whose lines are the algebra."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hficma.model.fusion import CrossFusion
from hficma.model.numerics import unit_rows
from hficma.model.similarity import (
    Side,
    SpineWeights,
    pair_block,
    pair_scores,
    project,
    tabulate,
    token_share,
)

WIDTH, HEADS, REGIONS = 16, 4, 7


def folded(dtype: torch.dtype, seed: int = 0) -> SpineWeights:
    torch.manual_seed(seed)
    fusion = CrossFusion(WIDTH, HEADS).requires_grad_(False)
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return fusion.to(dtype).fold()


def random_side(lengths: list[int], slots: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    """Unit tokens (N, slots, d), padded rows zero."""
    generator = torch.Generator().manual_seed(seed)
    tokens = unit_rows(torch.randn(len(lengths), slots, WIDTH, generator=generator).to(dtype))
    return tokens * (token_share(torch.tensor(lengths), slots, dtype) > 0)[..., None]


def sides(
    photos: int, lengths: list[int], dtype: torch.dtype, *, slots: int = 0, seed: int = 0
) -> tuple[Side, Side, SpineWeights]:
    """Photos at `tables` and recipes at `projections`."""
    weights = folded(dtype, seed)
    tokens = random_side([REGIONS] * photos, REGIONS, seed + 1, dtype)
    image = project(tokens, torch.full((photos,), REGIONS), weights.image)
    tokens = random_side(lengths, slots or max(lengths), seed + 2, dtype)
    recipe = project(tokens, torch.tensor(lengths), weights.recipe)
    return tabulate(image, weights.image), recipe, weights


def plain(image: Side, recipe: Side, weights: SpineWeights) -> torch.Tensor:
    """What the tiles stand in for."""
    recipe = tabulate(recipe, weights.recipe)
    return pair_block(image.grouped((1, -1)), recipe.grouped((1, -1)), weights)[0]


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@settings(max_examples=25, deadline=None)
@given(
    photos=st.integers(1, 9),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=40),
    more=st.integers(0, 2),
    seed=st.integers(0, 1000),
    stored=st.booleans(),
)
def test_tiles_equal_the_block(
    photos: int, lengths: list[int], more: int, seed: int, stored: bool
) -> None:
    """A wrong stride, order, mask or buffer would show in some size, length or level."""
    image, recipe, weights = sides(
        photos, lengths, torch.float64, slots=max(lengths) + more, seed=seed
    )
    expected = plain(image, recipe, weights)
    if stored:
        recipe = tabulate(recipe, weights.recipe)
    torch.testing.assert_close(pair_scores(image, recipe, weights), expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize("stored", [False, True])
def test_workers_change_nothing(threads: int, stored: bool) -> None:
    """Buffers shared between threads, or tiles joined in another order, would mix scores."""
    image, recipe, weights = sides(70, [5, 1, 3, 5, 2] * 15, torch.float64)
    expected = plain(image, recipe, weights)
    recipe = tabulate(recipe, weights.recipe) if stored else recipe
    for _ in range(3):
        torch.testing.assert_close(
            pair_scores(image, recipe, weights), expected, atol=1e-13, rtol=0
        )
    assert torch.get_num_threads() == threads
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [threads]


def test_photos_may_be_padded() -> None:
    """Regions are as many for every photo, yet `lengths` says how many count."""
    weights = folded(torch.float64)
    tokens = random_side([3, 7, 5], REGIONS, 1, torch.float64)
    image = tabulate(project(tokens, torch.tensor([3, 7, 5]), weights.image), weights.image)
    _, recipe, _ = sides(1, [2, 4], torch.float64)
    torch.testing.assert_close(
        pair_scores(image, recipe, weights), plain(image, recipe, weights), atol=1e-13, rtol=0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_types_are_as_near_as_the_block(dtype: torch.dtype) -> None:
    """In-place sums in a narrow type could lose what the plain form keeps."""
    image, recipe, weights = sides(3, [4, 1, 6, 6, 2], dtype)
    allowed = 1e-5 if dtype == torch.float32 else 2e-2
    got = pair_scores(image, recipe, weights)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, plain(image, recipe, weights), atol=allowed, rtol=0)


def test_a_score_is_the_same_in_a_smaller_company() -> None:
    """Memory left from a larger tile must not reach a smaller one."""
    image, recipe, weights = sides(5, [6, 2, 4, 1] * 8, torch.float64)
    recipe = tabulate(recipe, weights.recipe)
    together = pair_scores(image, recipe, weights)
    for item in (0, 1, 3):
        one = recipe.select(torch.tensor([item]))
        alone = pair_scores(image.select(slice(1, 2)), one, weights)
        torch.testing.assert_close(alone, together[1:2, item : item + 1], atol=1e-13, rtol=0)
