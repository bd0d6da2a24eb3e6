"""How items are cut into tiles, and that where they lie changes no score."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hficma.engine.index.item_encoding import ItemArrays
from hficma.engine.retrieval.located_items import LocatedItems
from hficma.engine.retrieval.reranking import TILE_TOKENS, cut_tiles


@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(0, 3)), min_size=1, max_size=60),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_each_item_is_in_one_tile_of_its_own_length(
    items: list[tuple[int, int]], step: int, seed: int
) -> None:
    """An item's padded length must follow from the item alone, or its score would not."""
    lengths = np.array([length for length, _ in items])
    array_of = np.array([number for _, number in items])
    positions = np.random.default_rng(seed).permutation(len(items))
    tiles = cut_tiles(lengths, LocatedItems([], array_of, positions), step)
    places = np.concatenate([tile.places for tile in tiles])
    np.testing.assert_array_equal(np.sort(places), np.arange(len(items)))
    for tile in tiles:
        assert tile.length % step == 0
        assert (lengths[tile.places] <= tile.length).all()
        assert (lengths[tile.places] > tile.length - step).all()
        assert len(tile.places) == 1 or len(tile.places) * tile.length <= TILE_TOKENS
        stored = list(zip(array_of[tile.places], positions[tile.places], strict=True))
        assert stored == sorted(stored)  # read in the order of the disk
    sizes = [tile.length for tile in tiles]
    assert sizes == sorted(sizes, reverse=True)  # no thread begins the longest tile last


def test_s_global_of_an_item_is_the_same_in_any_company() -> None:
    """Ties are broken by position: a last bit more would put the later of two equals first."""
    rng = np.random.default_rng(0)
    arrays = [ItemArrays(rng.normal(size=(n, 70)).astype(np.float32), None) for n in (1500, 40)]
    query = rng.normal(size=70).astype(np.float32)
    everything = LocatedItems(
        arrays, np.repeat([0, 1], [1500, 40]), np.concatenate([np.arange(1500), np.arange(40)])
    )
    together = everything.global_scores(query)
    exact = [float(row.astype(np.float64) @ query.astype(np.float64))
             for row in np.concatenate([one.vectors for one in arrays])]  # fmt: skip
    np.testing.assert_allclose(together, exact, rtol=1e-12, atol=1e-12)
    for size in (1, 2, 3, 64, 1100):
        places = rng.permutation(1540)[:size]
        np.testing.assert_array_equal(
            everything.select(places).global_scores(query), together[places]
        )


def test_vectors_are_copied_in_the_order_of_the_items() -> None:
    """Neighbours in one array are read as a run; a run must not swap two arrays."""
    arrays = [ItemArrays(np.arange(6, dtype=np.float32).reshape(3, 2) + 10 * i, None)
              for i in range(2)]  # fmt: skip
    items = LocatedItems(arrays, np.array([1, 1, 0, 1]), np.array([2, 0, 1, 1]))
    np.testing.assert_array_equal(items.vectors()[:, 0], [14, 10, 2, 12])
