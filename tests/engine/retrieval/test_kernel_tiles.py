"""Tiles of the compiled kernels hold each item once, and of tokens as many as fill them."""

from __future__ import annotations

import numpy as np

from hficma.engine.index.item_encoding import LEVELS, ItemArrays, Level, StoredEncodings
from hficma.engine.retrieval.kernel_tiles import KernelTile, cut_tiles
from hficma.engine.retrieval.located_items import LocatedItems

LENGTHS = np.array([3, 1, 4, 2, 5])
WIDTH = 8


def shards(level: Level, count: int) -> list[ItemArrays]:
    """Shards of five items each, whose numbers do not matter."""
    tokens, items = int(LENGTHS.sum()), len(LENGTHS)
    shapes = {"gate_bias": (tokens,), "mean": (items, WIDTH), "table": (2 * tokens, WIDTH)}
    arrays = {name: np.zeros(shapes.get(name, (tokens, WIDTH)), np.float32)
              for name in LEVELS[level]}  # fmt: skip
    one = StoredEncodings(LENGTHS, arrays, heads=2)
    return [ItemArrays(np.zeros((items, 4), np.float32), one)] * count


def tiles_of(arrays: list[ItemArrays], tokens: int) -> tuple[LocatedItems, list[KernelTile]]:
    """The tiles of all items, asked for in no order."""
    every = np.random.default_rng(0).permutation(len(arrays) * len(LENGTHS))
    items = LocatedItems(arrays, every // len(LENGTHS), every % len(LENGTHS))
    tiles = list(cut_tiles(items, tokens))
    places = np.concatenate([tile.places for tile in tiles])
    assert sorted(places) == list(range(len(every))), "each item once"
    for tile in tiles:
        np.testing.assert_array_equal(tile.items.array_of, items.array_of[tile.places])
        np.testing.assert_array_equal(tile.items.positions, items.positions[tile.places])
        np.testing.assert_array_equal(tile.lengths, LENGTHS[tile.items.positions])
    return items, tiles


def test_tokens_of_many_shards_fill_few_tiles() -> None:
    """A million recipes lie in 31 shards: a tile a shard would read all weights twice as often."""
    _, tiles = tiles_of(shards("tokens", 12), tokens=60)  # 12 shards of 15 tokens
    assert len(tiles) == 3
    assert all(abs(int(tile.lengths.sum()) - 60) <= LENGTHS.max() for tile in tiles)


def test_what_is_read_where_it_lies_is_of_one_shard() -> None:
    """A kernel takes one address an array: items of two shards would be read from the first."""
    arrays = shards("projections", 3) + shards("tables", 1)
    _, tiles = tiles_of(arrays, tokens=8)
    assert all(len(np.unique(tile.items.array_of)) == 1 for tile in tiles)
    assert len(tiles) == 8


def test_a_cache_beside_tokens_has_tiles_of_its_own() -> None:
    """Tables of a batch's shared candidates lie behind shards of tokens."""
    _, tiles = tiles_of(shards("tokens", 3) + shards("tables", 1), tokens=1000)
    assert [len(np.unique(tile.items.array_of)) for tile in tiles] == [3, 1]
