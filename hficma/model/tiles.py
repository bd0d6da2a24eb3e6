"""S_local of a block without gradients on CPU: what `similarity.pair_block` computes, arranged
for the machine.

* Each core takes tiles of its own, one thread each: these products are too small to share.
* A photo's operands are laid out by head once, and every small product has the photo on its
  left: (H, R, d_k) (H, d_k, m T) is the orientation in which MKL is quickest.
* What a pair writes goes into memory that its thread keeps: new pages cost more than the sums.
* Where tables are made for the pair they are laid out by token, which the product that makes
  them can write; stored ones are read by head, as they lie.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from hficma.model.similarity import (
    MATCH_PAIRS,
    Side,
    SideWeights,
    SpineWeights,
    match_score,
    padding_bias,
    token_share,
)

TILE_RECIPES = 16
"""Enough rows to multiply a photo's tables; few enough for the working set to stay cached."""
TILE_PHOTOS = 4
"""Photos that a recipe's table is multiplied with at once."""
BLOCK_PHOTOS = 64
"""Photos for which a recipe's tables are made once, where it comes without."""
ROW_GAP = 16
"""Floats between rows of tables: rows a power of two apart fall on the same lines of a cache."""


Items = Tensor | slice


class Photos(NamedTuple):
    """Photos laid out for tiles."""

    side: Side
    """At `tables`."""
    query: Tensor
    """(B, H, R, d_k), scaled by 1 / √d_k."""
    key: Tensor
    """(B, H, R, d_k), scaled by 1 / √d_k."""
    value: Tensor
    """(B, H, R, d_k)."""
    gate: Tensor
    """(B, H, R, d_k)."""
    padding: Tensor | None
    """(B, R), to be added to logits; None where there is none."""


class _Memory(threading.local):
    """A thread's buffers by name, as large as the largest tile it has seen."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Memory of this name, whatever was in it."""
        wanted = math.prod(shape)
        buffer = self._buffers.get((name, like.dtype))
        if buffer is None or buffer.numel() < wanted:
            buffer = self._buffers[name, like.dtype] = like.new_empty(wanted)
        return buffer[:wanted].view(shape)


_memory = _Memory()


def tiled_scores(image: Side, recipe: Side, weights: SpineWeights) -> Tensor:
    """S_local (B, M) of every pair.

    Args:
        image: B photos, at `tables`.
        recipe: M recipes, at `projections` or `tables`; may be ragged.
        weights: of the same model.
    """
    count = len(recipe.lengths)
    order = torch.argsort(recipe.lengths, stable=True)
    in_order = bool((recipe.lengths.diff() >= 0).all())
    workers = torch.get_num_threads()
    rows = []
    for top in range(0, len(image.lengths), BLOCK_PHOTOS):
        photos = _laid_out(image.select(slice(top, top + BLOCK_PHOTOS)))
        step = max(TILE_RECIPES * workers, MATCH_PAIRS // len(photos.query))
        strips = []
        for first in range(0, count, step):
            last = min(first + step, count)
            # As many tiles as fill all workers alike, in order of length: little is padded.
            turns = math.ceil((last - first) / (TILE_RECIPES * workers))
            size = math.ceil((last - first) / (turns * workers))
            cuts = [slice(at, min(at + size, last)) for at in range(first, last, size)]
            tiles = [cut if in_order else order[cut] for cut in cuts]
            means = _mapped(lambda tile: _means(photos, recipe, tile, weights), tiles, workers)  # noqa: B023
            joined = [torch.cat(parts, dim=1) for parts in zip(*means, strict=True)]
            strips.append(match_score(joined[0], joined[1], weights))
        rows.append(torch.cat(strips, dim=1))
    return torch.cat(rows)[:, torch.argsort(order)]


def _laid_out(image: Side) -> Photos:
    assert image.table is not None
    heads, size, width = image.table.shape[1:]

    def by_head(values: Tensor, scale: float = 1.0) -> Tensor:
        return (values * scale).unflatten(-1, (heads, -1)).transpose(1, 2).contiguous()

    scale = (heads / width) ** 0.5
    padded = bool((image.lengths < size).any())
    return Photos(
        image,
        by_head(image.query, scale),
        by_head(image.key, scale),
        by_head(image.value),
        by_head(image.gate),
        padding_bias(image.lengths, size, image.query.dtype) if padded else None,
    )


def _means(
    photos: Photos, recipes: Side, items: Items, weights: SpineWeights
) -> tuple[Tensor, Tensor]:
    """mean co1 and mean co2 of a tile's pairs, each (B, m, d)."""
    # Tables are most of a side: selecting would copy them.
    recipe = replace(recipes, table=None).select(items)
    positions = torch.arange(len(recipes.lengths))[items].tolist()
    count, slots, width = recipe.value.shape
    heads, regions = photos.query.shape[1:3]
    dtype = recipe.value.dtype
    by_token = recipes.table is None
    tables = _tables_by_token(recipe, weights.recipe) if by_token else recipes.table
    assert tables is not None
    image_means = recipe.value.new_empty(len(photos.query), count, width)
    recipe_means = torch.empty_like(image_means)
    recipe_share = token_share(recipe.lengths, slots, dtype)[:, None]
    image_share = token_share(photos.side.lengths, regions, dtype)[:, None]
    padding = None
    if bool((recipe.lengths < slots).any()):
        padding = padding_bias(recipe.lengths, slots, dtype)
    columns = [
        values.reshape(count * slots, heads, -1).permute(1, 2, 0)
        for values in (recipe.key, recipe.query, recipe.value, recipe.gate)
    ]
    for top in range(0, len(photos.query), TILE_PHOTOS):
        some = range(top, min(top + TILE_PHOTOS, len(photos.query)))
        inner = (slots, heads) if by_token else (heads, slots)
        shares = _memory.take("shares", (count, len(some), regions, *inner), tables)
        gates = _memory.take("gates", (count, len(some), regions), tables)
        for row, photo in enumerate(some):
            own = shares[:, row].permute((3, 1, 0, 2) if by_token else (2, 1, 0, 3))
            _read_recipes(photos, photo, columns, padding, own, gates[:, row])
            _read_photo(
                photos, photo, columns, recipe, recipe_share, recipe_means[photo], weights.recipe
            )
        part = slice(some.start, some.stop)
        for item, position in enumerate(positions):
            # A stored table is read where it lies: a copy of it costs what it would save.
            table = tables[item] if by_token else tables[position, :, :slots]
            fused = _fused(
                gates[item].reshape(-1, 1),
                photos.side.fuse[part].reshape(-1, width),
                shares[item].view(len(some) * regions, -1),
                table.reshape(heads * slots, -1),
                weights.image,
            ).view(len(some), regions, width)
            image_means[part, item] = torch.bmm(image_share[part], fused)[:, 0]
    image_means += photos.side.mean[:, None]
    recipe_means += recipe.mean
    return image_means, recipe_means


def _read_recipes(
    photos: Photos, photo: int, columns: list[Tensor], padding: Tensor | None,
    shares: Tensor, gates: Tensor,
) -> None:  # fmt: skip
    """A photo's gated attention over m recipes, to (H, R, m, T), and its gates, to (m, R)."""
    key, _, value, _ = columns
    sizes = (len(photos.query[0]), shares.shape[1], *shares.shape[2:])
    attention = _products("logits", photos.query[photo], key).view(sizes)
    if padding is not None:
        attention += padding
    torch.softmax(attention, dim=-1, out=attention)
    agreement = _products("agreement", photos.gate[photo], value).view(sizes)
    gate = agreement.mul_(attention).sum(dim=(0, 3)) + photos.side.gate_bias[photo][:, None]
    gate.sigmoid_()
    gates.copy_(gate.mT)
    torch.mul(attention, gate[..., None], out=shares)


def _read_photo(
    photos: Photos, photo: int, columns: list[Tensor], recipe: Side, share: Tensor,
    means: Tensor, weights: SideWeights,
) -> None:  # fmt: skip
    """mean ReLU(...) of m recipes that read a photo, to (m, d)."""
    _, query, _, gate_of = columns
    count, slots, width = recipe.fuse.shape
    attention = _products("logits", photos.key[photo], query)
    if photos.padding is not None:
        attention += photos.padding[photo][:, None]
    torch.softmax(attention, dim=1, out=attention)
    agreement = _products("agreement", photos.value[photo], gate_of)
    gate = agreement.mul_(attention).sum(dim=(0, 1)) + recipe.gate_bias.reshape(-1)
    gate.sigmoid_()
    assert photos.side.table is not None
    fused = _fused(
        gate[:, None],
        recipe.fuse.reshape(-1, width),
        attention.mul_(gate).flatten(0, 1).T,
        photos.side.table[photo].reshape(-1, width),
        weights,
    )
    torch.bmm(share, fused.view(count, slots, width), out=means[:, None])


def _products(name: str, photo: Tensor, columns: Tensor) -> Tensor:
    """(H, R, d_k) (H, d_k, m T) -> (H, R, m T), in memory of the given name."""
    out = _memory.take(name, (*photo.shape[:2], columns.shape[2]), photo)
    return torch.bmm(photo, columns, out=out)


def _fused(
    gate: Tensor, fuse: Tensor, shares: Tensor, table: Tensor, weights: SideWeights
) -> Tensor:
    """ReLU(g ⊙ a + (g ⊙ A) t + b), (rows, d)."""
    out = _memory.take("fused", tuple(fuse.shape), fuse)
    torch.addcmul(weights.fuse_bias, gate, fuse, out=out)
    return out.addmm_(shares, table).relu_()


def _tables_by_token(recipe: Side, weights: SideWeights) -> Tensor:
    """`tabulate`, to (m, T H, d): every head's product writes rows a fixed step apart."""
    heads, head_width, width = weights.table.shape
    count, slots = recipe.value.shape[:2]
    values = recipe.value.reshape(count * slots, heads, head_width).transpose(0, 1)
    memory = _memory.take("table", (count * slots, heads, width + ROW_GAP), recipe.value)
    for head in range(heads):
        torch.mm(values[head], weights.table[head], out=memory[:, head, :width])
    return memory.view(count, slots * heads, -1)[..., :width]


def _mapped(
    function: Callable[[Side], tuple[Tensor, Tensor]], tiles: Sequence[Side], workers: int
) -> list[tuple[Tensor, Tensor]]:
    """`function` of every tile, on as many single-threaded workers as torch has threads."""

    def alone(tile: Side) -> tuple[Tensor, Tensor]:
        with torch.no_grad():  # a thread's own setting
            return function(tile)

    if workers == 1 or len(tiles) == 1:
        return [alone(tile) for tile in tiles]
    return list(_pool(workers).map(alone, tiles))


@functools.cache
def _pool(workers: int) -> Executor:
    """Threads in which torch computes alone; their memory stays with them."""
    started = threading.Barrier(workers)

    def alone() -> None:
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(workers, "pair-scores", initializer=alone)
    list(pool.map(lambda _: None, range(workers)))
    # Told in any thread, the number is also that of threads to come: restore it for those.
    torch.set_num_threads(workers)
    return pool


# Threads do not survive a fork.
os.register_at_fork(after_in_child=_pool.cache_clear)
