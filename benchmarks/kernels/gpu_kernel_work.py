"""What the GPU kernels compute and read for a shape, counted from their tiles, beside the least.

The least arithmetic has no padded row or column, and the least traffic moves every operand and
every result of a kernel once. Counts are of programs as they are launched, for recipes of one
length; `longest` is what the tiles are chosen for.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from hficma.engine.gpu.kernels.packed_items import SHORT
from hficma.engine.gpu.kernels.tile_shapes import (
    AttentionTile,
    FusionTile,
    ProductTile,
    attention_tile,
    fusion_tile,
    matching_tile,
    tabulation_tile,
)
from hficma.engine.index.item_encoding import Level

if TYPE_CHECKING:
    from triton.runtime import JITFunction

WIDE = 2
"""Bytes of a number in 16 bits."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Photos that meet recipes, all of one length."""

    width: int = 1024
    heads: int = 8
    photos: int = 1
    recipes: int = 1000
    regions: int = 49
    tokens: int = 20
    longest: int = 20
    """Tokens of a recipe at most, for which the tiles are chosen."""
    level: Level = "tables"
    """Of the recipes: at `projections` their tables are made for the launch."""

    @property
    def pairs(self) -> int:
        """Return B M."""
        return self.photos * self.recipes

    def __str__(self) -> str:
        made = "" if self.level == "tables" else ", tables made"
        shape = f"{self.photos:,} x {self.recipes:,}, {self.regions} regions, {self.tokens} tokens"
        return shape + made


class Work(NamedTuple):
    """Multiply-adds and bytes of one launch: as launched, and the least."""

    multiply_adds: float
    least_multiply_adds: float
    bytes: float
    """That programs ask for: of L2 mostly."""
    least_bytes: float


class KernelLaunch(NamedTuple):
    """A kernel as it is launched for a shape."""

    name: str
    kernel: JITFunction
    tile: AttentionTile | FusionTile | ProductTile
    sizes: dict[str, int]
    """D, and H where the kernel has heads."""
    work: Work


def launches(shape: Shape) -> list[KernelLaunch]:
    """Return the launches that score a shape's pairs, in their order."""
    from hficma.engine.gpu.kernels.attention import attention_kernel
    from hficma.engine.gpu.kernels.fusion import fusion_kernel
    from hficma.engine.gpu.kernels.matching import matching_kernel
    from hficma.engine.gpu.kernels.tabulation import tabulation_kernel

    photos = _Items(shape.photos, shape.regions, shape.regions)
    recipes = _Items(shape.recipes, shape.tokens, shape.longest)
    sizes = {"HEADS": shape.heads, "WIDTH": shape.width}
    result = []
    if shape.level == "projections":
        tabulation = tabulation_tile(shape.width)
        work = _tabulation_work(shape, recipes, tabulation)
        result.append(KernelLaunch("tabulate", tabulation_kernel, tabulation, sizes, work))
    for kind, reader, source in (("photos", photos, recipes), ("recipes", recipes, photos)):
        most_rows = reader.items * reader.longest
        # Short recipes are launched apart from long ones, of which a shape of one length has none.
        longest = SHORT if source.length <= SHORT < source.longest else source.longest
        attention = attention_tile(most_rows, source.items, longest, shape.width // shape.heads)
        fusion = fusion_tile(reader.longest, most_rows, source.items, shape.width)
        result += [
            KernelLaunch(
                f"attend, {kind} read", attention_kernel, attention, sizes,
                _attention_work(shape, reader, source, attention),
            ),
            KernelLaunch(
                f"fuse, {kind} read", fusion_kernel, fusion, sizes,
                _fusion_work(shape, reader, source, fusion),
            ),
        ]  # fmt: skip
    matching = matching_tile(shape.pairs, shape.width)
    work = _matching_work(shape, matching)
    sizes = {"WIDTH": shape.width}
    return [*result, KernelLaunch("match", matching_kernel, matching, sizes, work)]


class _Items(NamedTuple):
    """Items of one kind, all of one length."""

    items: int
    length: int
    longest: int

    @property
    def rows(self) -> int:
        """Return their tokens together."""
        return self.items * self.length


def _tabulation_work(shape: Shape, items: _Items, tile: ProductTile) -> Work:
    row_tiles, column_tiles = ceil(items.rows / tile.rows), ceil(shape.width / tile.columns)
    depth = ceil(shape.width / shape.heads / tile.depth) * tile.depth * shape.heads
    values = WIDE * items.rows * shape.width
    weights = WIDE * shape.width**2
    written = values * shape.heads
    return Work(
        row_tiles * tile.rows * column_tiles * tile.columns * depth,
        items.rows * shape.width**2,
        column_tiles * values + row_tiles * weights + written,
        values + weights + written,
    )


def _attention_work(shape: Shape, reader: _Items, source: _Items, tile: AttentionTile) -> Work:
    row_tiles, item_tiles = ceil(reader.rows / tile.rows), ceil(source.items / tile.items)
    columns = tile.items * tile.slot
    head = tile.constants()["HEAD_BLOCK"] * tile.parts
    done = 2 * row_tiles * tile.rows * item_tiles * columns * head * shape.heads
    # Query and gate of the one, key and value of the other.
    reader_bytes, source_bytes = (2 * WIDE * shape.width * side.rows for side in (reader, source))
    steps = ceil((item_tiles if tile.reader_stays else row_tiles) / tile.steps)
    times: tuple[float, float] = (steps, row_tiles) if tile.reader_stays else (item_tiles, steps)
    if tile.parts > 1:  # of each head the first part stays, and the others pass again
        passing = 1 - 1 / tile.parts
        times = (item_tiles, steps / tile.parts + row_tiles * passing)
    written = reader.rows * shape.heads * (WIDE * source.rows + 4 * source.items)
    return Work(
        done,
        2 * reader.rows * source.rows * shape.width,
        times[0] * reader_bytes + times[1] * source_bytes + written,
        reader_bytes + source_bytes + written,
    )


def _fusion_work(shape: Shape, reader: _Items, source: _Items, tile: FusionTile) -> Work:
    tile_items = min(tile.items, tile.rows // reader.length)
    if reader.length < reader.longest:  # windows, in which an item counts some rows at least
        counted = max(reader.length, -(-tile.rows // tile.items))
        tile_items = (tile.rows - reader.longest + 1) // counted
    row_tiles, column_tiles = ceil(reader.items / tile_items), ceil(shape.width / tile.columns)
    depth = shape.heads * source.length
    columns = column_tiles * tile.columns
    mean_rows = tile.items if tile.items > 1 else 0
    done = row_tiles * source.items * columns * tile.rows * (
        ceil(depth / tile.depth) * tile.depth + mean_rows
    )  # fmt: skip
    shares = WIDE * reader.rows * source.rows * shape.heads
    agreement = 4 * reader.rows * source.items * shape.heads
    table = WIDE * source.rows * shape.heads * shape.width
    own = WIDE * reader.rows * shape.width
    written = WIDE * shape.pairs * shape.width
    return Work(
        done,
        reader.rows * source.rows * shape.heads * shape.width,
        column_tiles * (shares + agreement) + row_tiles * table + source.items * own + written,
        shares + agreement + table + own + written,
    )


def _matching_work(shape: Shape, tile: ProductTile) -> Work:
    row_tiles, column_tiles = ceil(shape.pairs / tile.rows), ceil(shape.width / tile.columns)
    depth = 2 * ceil(shape.width / tile.depth) * tile.depth
    means = 2 * WIDE * shape.pairs * shape.width
    weights = 2 * WIDE * shape.width**2
    parts = 4 * shape.pairs * column_tiles
    return Work(
        row_tiles * tile.rows * column_tiles * tile.columns * depth,
        shape.pairs * 2 * shape.width**2,
        column_tiles * means + row_tiles * weights + parts,
        means + weights + parts,
    )
