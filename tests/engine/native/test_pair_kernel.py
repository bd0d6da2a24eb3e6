"""The compiled kernels compute what the model's reference does, on every kind of processor here."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hficma.engine.native.library import SCREEN, kinds
from hficma.engine.native.pair_kernel import TileItems

pytest.importorskip("torch", reason="the reference is in torch")
from tests.engine.native.pairs import LEVELS, ROWS, Level, Pairs, random_pairs, score

pytestmark = pytest.mark.torch

TOLERANCE = {"float32": 2e-6, "float16": 2e-4, "int8": 5e-3}
"""Of S_local, by how items are stored."""
BF16_TOLERANCE = 1e-2


def tolerance(kind: str, stored: str = "float32") -> float:
    """The largest difference from the reference that rounding explains."""
    return max(TOLERANCE[stored], BF16_TOLERANCE if kind == SCREEN else 0.0)


@st.composite
def pairs(draw: st.DrawFn) -> Pairs:
    """Pairs of any sizes: heads of even width, for bfloat16 goes by twos."""
    heads = draw(st.integers(1, 4))
    return random_pairs(
        width=heads * 2 * draw(st.integers(1, 20)),
        heads=heads,
        query_length=draw(st.sampled_from([1, 2, 15, 16, 17, 20, 33, 49, 81])),
        lengths=draw(st.lists(st.integers(1, 24), min_size=1, max_size=5)),
        photo=draw(st.booleans()),
        seed=draw(st.integers(0, 2**31)),
    )


@settings(max_examples=25, deadline=None)
@given(pairs(), st.sampled_from(LEVELS), st.sampled_from(sorted(TOLERANCE)))
def test_every_kind_agrees_with_the_reference(some: Pairs, level: Level, stored: str) -> None:
    """A wrong sum, or a tail that is read past its end, would rank other recipes first."""
    everything = some.tile(level, np.arange(len(some.lengths)), stored)
    for kind in kinds():
        scores = score(some.kernel(level, kind), some.query, [everything])
        error = np.abs(scores - some.scores).max()
        assert error <= tolerance(kind, stored), (kind, error)


@pytest.mark.parametrize(("query_length", "length"), [(196, 20), (81, 1), (1, 196), (20, 81)])
def test_the_sizes_of_real_models(query_length: int, length: int) -> None:
    """Regions of larger photos, one token, and the most that a recipe has."""
    some = random_pairs(
        width=320, heads=8, query_length=query_length, lengths=[length, 1, length],
        photo=query_length > 20, seed=3,
    )  # fmt: skip
    for kind in kinds():
        for level in LEVELS:
            tile = some.tile(level, np.arange(3))
            scores = score(some.kernel(level, kind), some.query, [tile])
            np.testing.assert_allclose(scores, some.scores, rtol=0, atol=tolerance(kind))


@settings(max_examples=15, deadline=None)
@given(pairs(), st.sampled_from(LEVELS))
def test_an_item_scores_the_same_bits_in_any_company(some: Pairs, level: Level) -> None:
    """A certificate compares scores of different tiles: it would be worth nothing otherwise."""
    count = len(some.lengths)
    for kind in kinds():
        kernel = some.kernel(level, kind)
        together = score(kernel, some.query, [some.tile(level, np.arange(count))])
        alone = [some.tile(level, np.array([place])) for place in range(count)]
        np.testing.assert_array_equal(score(kernel, some.query, alone), together)
        backwards = some.tile(level, np.arange(count)[::-1])
        np.testing.assert_array_equal(score(kernel, some.query, [backwards])[::-1], together)


def test_a_query_far_from_even_attention_stays_finite() -> None:
    """Logits of thousands overflow an exponential unless the largest is taken off first."""
    some = random_pairs(width=32, heads=2, query_length=49, lengths=[5, 9], photo=True, seed=1)
    for name in ("query", "key"):
        some.query[name] *= 1e3
        some.items[name] *= 1e3
    for kind in kinds():
        scores = score(some.kernel("tables", kind), some.query, [some.tile("tables", np.arange(2))])
        assert ((scores > 0) & (scores < 1)).all()


@pytest.mark.parametrize("name", ["query", "key", "value", "gate", "fuse", "table", "mean"])
def test_what_is_no_number_gives_no_score(name: str) -> None:
    """A damaged array would rank its item anywhere; the certificate refuses what is not finite."""
    some = random_pairs(width=32, heads=2, query_length=9, lengths=[5, 9], photo=True, seed=1)
    some.items[name].flat[3] = np.nan
    for kind in kinds():
        scores = score(some.kernel("tables", kind), some.query, [some.tile("tables", np.arange(2))])
        assert np.isnan(scores[0])
        assert not np.isnan(scores[1])


@settings(max_examples=15, deadline=None)
@given(pairs(), st.sampled_from(LEVELS[1:]), st.sampled_from(sorted(TOLERANCE)))
def test_tables_made_for_several_queries_score_the_same_bits(
    some: Pairs, level: Level, stored: str
) -> None:
    """An item would score otherwise in a batch of photos than when one of them asks alone."""
    everything = some.tile(level, np.arange(len(some.lengths))[::-1], stored)
    tokens, width = int(some.lengths.sum()), some.items["mean"].shape[1]
    for kind in kinds():
        kernel = some.kernel(level, kind)
        arrays = {name: np.full_like(some.items[name], np.nan) for name in (*ROWS, "mean", "table")}
        assert arrays["table"].shape == (some.heads * tokens, width)
        kernel.tabulate(everything, arrays)
        lengths = everything.lengths
        places = np.arange(len(lengths))
        tables = TileItems(lengths, np.cumsum(lengths) - lengths, places, arrays, {})
        np.testing.assert_array_equal(
            score(kernel, some.query, [tables]), score(kernel, some.query, [everything])
        )
