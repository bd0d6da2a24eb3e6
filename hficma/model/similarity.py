r"""S_local in its fast, exact form: one-sided projections, tables, and one small product a pair.

With L(x) = x Wᵀ + b as torch stores linear layers, h heads of size d_k = d / h, photo tokens
v1 (R, d) and recipe tokens v2 (T, d), the published cross-attention and gated fusion are

    x1 = concat_h A12_h u2_h         A12_h = softmax(query1_h key2_hᵀ / √d_k)
    g1 = σ(v1 · L4(x1))
    co1 = ReLU(fc_1([v1 ; L4(x1)] g1)) + v1          e1 = L2(mean co1)
    S_local = σ(MLP([e1 ; e2]))                      and x2, g2, co2, e2 with the sides swapped,

with query = L1(K v), key = L2(K v), value u = L3(v), K the side's bias-free key projection.
Four exact steps leave little of it to each pair:

1. v1 · L4(x) = p1 · x + s1 with p1 = v1 W4 and s1 = v1 · b4: the gate needs no output layer,
   g1[i] = σ(Σ_h Σ_j A12_h[i, j] (p1_h[i] · u2_h[j]) + s1[i]).
2. The gate is one number a token, so it commutes with the linear layer behind it:
   fc_1([v1 ; L4(x)] g) = g ⊙ (a1 + W1b W4 x) + b_fc1, with a1 = W1a v1 + W1b b4.
3. W1b W4 is one matrix, and x is linear in the other side's values, so it folds into them:
   t2_h = u2_h (W1b W4)_hᵀ is a table of the recipe alone, and W1b W4 x = Σ_h A12_h t2_h.
4. mean(v1) leaves the pair: mean co1 = mean ReLU(...) + mean v1.

What depends on one item alone is in `PaddedEncodings`, made by `project` (query, key, value,
gate p, fuse a, gate_bias s, mean) and `tabulate` (table t). What is left for a pair is in
`pair_scores`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .numerics import at_least_float32, unit_rows

MASKED = -1e4
"""Added to the logits of padded tokens: exp underflows to 0 in every precision, never NaN."""

MATCH_PAIRS = 1024
"""Pairs whose means wait for the matching MLP: enough to fill a matrix product."""

TILE_PAIRS = 64
"""Pairs scored at once without gradients: enough to share a table, few enough to stay cached."""
GROUP_PAIRS = 256
"""Pairs of several groups scored at once: groups are small, and two threads idle on one."""
TILE_RECIPES = 32
"""Recipes of a tile at most: tables made on the way are the largest thing in it."""


class FoldedItemWeights(NamedTuple):
    """Folded weights that depend on one side."""

    projection: Tensor
    """(5 d, d): query, key, value, gate, fuse, one below the other."""
    projection_bias: Tensor
    """(5 d,)."""
    gate_bias: Tensor
    """(d,): b4."""
    table: Tensor
    """(H, d_k, d): the other side's (W_b W4)_hᵀ, which folds this side's values."""
    fuse_bias: Tensor
    """(d,): b_fc of this side."""


class FoldedWeights(NamedTuple):
    """Everything that `project`, `tabulate` and `pair_scores` read."""

    image: FoldedItemWeights
    recipe: FoldedItemWeights
    match_hidden: Tensor
    """(d, 2 d): first layer of the matching MLP."""
    match_hidden_bias: Tensor
    """(d,)."""
    match_output: Tensor
    """(1, d)."""
    match_output_bias: Tensor
    """(1,)."""


@dataclass(frozen=True)
class PaddedEncodings:
    """Photos or recipes prepared for `pair_scores`; N items of n padded tokens each.

    The leading dimension may be two, (G, N), inside the pair kernel.
    """

    query: Tensor
    """(N, n, d)."""
    key: Tensor
    """(N, n, d)."""
    value: Tensor
    """(N, n, d)."""
    gate: Tensor
    """(N, n, d): p."""
    fuse: Tensor
    """(N, n, d): a."""
    gate_bias: Tensor
    """(N, n): s."""
    mean: Tensor
    """(N, d): mean of the item's tokens."""
    lengths: Tensor
    """(N,) int64: tokens that are not padding."""
    table: Tensor | None = None
    """(N, H, n, d), or None at the level `projections`."""

    def select(self, items: Tensor | slice) -> PaddedEncodings:
        """The given items, padded only to the longest of them; a slice copies nothing."""
        lengths = self.lengths[items]
        longest = int(lengths.max())
        chosen = {"mean": self.mean[items], "lengths": lengths}
        for name in ("query", "key", "value", "gate", "fuse", "gate_bias"):
            chosen[name] = getattr(self, name)[items, :longest]
        if self.table is not None:
            chosen["table"] = self.table[items, :, :longest]
        return PaddedEncodings(**chosen)

    def split(self, sizes: Sequence[int]) -> list[PaddedEncodings]:
        """Consecutive items, so many each; together their gradient is one copy."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        parts = {
            name: array.split(list(sizes)) for name, array in arrays.items() if array is not None
        }
        return [
            PaddedEncodings(**{name: part[i] for name, part in parts.items()})
            for i in range(len(sizes))
        ]

    def grouped(self, shape: tuple[int, int]) -> PaddedEncodings:
        """The same items with the leading dimension split into (G, N)."""
        arrays: dict[str, Tensor | None] = {f.name: getattr(self, f.name) for f in fields(self)}
        return PaddedEncodings(
            **{
                name: array.reshape(*shape, *array.shape[1:])
                for name, array in arrays.items()
                if array is not None
            }
        )


def project(tokens: Tensor, lengths: Tensor, weights: FoldedItemWeights) -> PaddedEncodings:
    """Everything of one side that is linear in its tokens: once per photo or recipe.

    Args:
        tokens: (N, n, d), unit rows; padded rows are zero.
        lengths: (N,) int64, at least 1.
        weights: of the side.
    """
    projected = F.linear(tokens, weights.projection, weights.projection_bias)
    query, key, value, gate, fuse = projected.chunk(5, dim=-1)
    return PaddedEncodings(
        query=query,
        key=key,
        value=value,
        gate=gate,
        fuse=fuse,
        gate_bias=tokens @ weights.gate_bias,
        mean=tokens.sum(dim=-2) / lengths[:, None].to(tokens.dtype),
        lengths=lengths,
    )


def tabulate(side: PaddedEncodings, weights: FoldedItemWeights) -> PaddedEncodings:
    """Raise a side from `projections` to `tables`: t_h = u_h (W_b W4)_hᵀ.

    Args:
        side: with `value` (N, n, d).
        weights: of the same side.
    """
    heads, head_width, width = weights.table.shape
    count, size = side.value.shape[:2]
    # One product a head over all items at once fills the machine better than one an item.
    values = side.value.reshape(count * size, heads, head_width).transpose(0, 1)
    table = torch.bmm(values, weights.table).view(heads, count, size, width)
    return replace(side, table=table.transpose(0, 1).contiguous())


def pair_scores(
    image: PaddedEncodings,
    recipe: PaddedEncodings,
    weights: FoldedWeights,
    *,
    candidates: Tensor | None = None,
    tile: int | None = None,
) -> Tensor:
    """S_local of pairs, in (0, 1).

    Args:
        image: B photos, at `projections` or `tables`.
        recipe: M recipes, at `projections` or `tables`; may be ragged, `lengths` counts.
        weights: of the same model.
        candidates: (B, K) int64 positions in `recipe`; None scores the whole block.
        tile: pairs computed at once. None: all of them when gradients are recorded,
            `TILE_PAIRS` otherwise. With gradients, each tile is computed again in the
            backward pass instead of being kept, which bounds the memory.

    Returns:
        (B, M), or (B, K) with `candidates`; float32 or wider.
    """
    trained = (image.value, recipe.value, weights.match_output)
    recording = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in trained)
    if image.table is None:
        image = tabulate(image, weights.image)
    if candidates is not None:
        photos = image.mean.shape[0]
        shape = (photos, candidates.shape[1])
        rows = [
            pair_scores(
                image.select(torch.tensor([photo])),
                recipe.select(candidates[photo]),
                weights,
                tile=tile,
            )
            for photo in range(photos)
        ]
        return torch.cat(rows).view(shape)
    if recording and recipe.table is None:
        recipe = tabulate(recipe, weights.recipe)
    if recording and tile is None:
        return pair_block(image.grouped((1, -1)), recipe.grouped((1, -1)), weights)[0]
    return _tiled(image, recipe, weights, tile or TILE_PAIRS, recompute=recording)


def group_scores(
    image: PaddedEncodings,
    recipe: PaddedEncodings,
    weights: FoldedWeights,
    sizes: Sequence[int],
    *,
    tile: int | None = None,
) -> list[Tensor]:
    """S_local within groups of pairs: every photo of a group with every recipe of it.

    Args:
        image: B photos at `projections`, group after group.
        recipe: their B recipes.
        weights: of the same model.
        sizes: of the groups; B together.
        tile: pairs computed at once, one group at least, and again in the backward pass, which
            bounds the memory; None keeps what the backward pass needs.

    Returns:
        for each group (size, size).
    """
    image, recipe = tabulate(image, weights.image), tabulate(recipe, weights.recipe)
    blocks: list[tuple[int, int]] = []  # so many groups of such a size
    for size in sizes:
        count, last = blocks[-1] if blocks else (0, 0)
        if size == last and (count + 1) * size**2 <= (tile or GROUP_PAIRS):
            blocks[-1] = (count + 1, size)
        else:
            blocks.append((1, size))
    items = [count * size for count, size in blocks]
    scores: list[Tensor] = []
    for shape, photos, recipes in zip(blocks, image.split(items), recipe.split(items), strict=True):
        block = (photos.grouped(shape), recipes.grouped(shape), weights)
        if tile is None:
            scores += pair_block(*block)
        else:
            scores += checkpoint(pair_block, *block, use_reentrant=False)
    return scores


def _tiled(
    image: PaddedEncodings,
    recipe: PaddedEncodings,
    weights: FoldedWeights,
    tile: int,
    *,
    recompute: bool,
) -> Tensor:
    """The block (B, M) in tiles of similar lengths, so that little padding is computed."""
    photos = image.lengths.shape[0]
    rows = max(1, min(photos, int(tile**0.5)))
    columns = max(1, min(tile // rows, TILE_RECIPES))
    order = torch.argsort(recipe.lengths, stable=True)
    sorted_already = bool((recipe.lengths.diff() >= 0).all())
    scores, waiting = [], []
    for first in range(0, len(order), columns):
        some = slice(first, first + columns)
        part = recipe.select(some if sorted_already else order[some])
        if part.table is None:
            part = tabulate(part, weights.recipe)
        part = part.grouped((1, -1))
        strip = []
        for top in range(0, photos, rows):
            block = image.select(slice(top, top + rows)).grouped((1, -1))
            if recompute:
                means = checkpoint(_block_means, block, part, weights, use_reentrant=False)
            else:
                means = _block_means(block, part, weights)
            strip.append([mean[0] for mean in means])
        waiting.append([torch.cat(rows_of) for rows_of in zip(*strip, strict=True)])
        # The matching MLP reads its weights once for many pairs, not once for a tile.
        if len(waiting) * columns * photos >= MATCH_PAIRS or first + columns >= len(order):
            joined = [torch.cat(strips, dim=1) for strips in zip(*waiting, strict=True)]
            scores.append(match_score(joined[0], joined[1], weights))
            waiting.clear()
    return torch.cat(scores, dim=1)[:, torch.argsort(order)]


def pair_block(image: PaddedEncodings, recipe: PaddedEncodings, weights: FoldedWeights) -> Tensor:
    """S_local of every photo with every recipe of its group, (G, B, M).

    Args:
        image: (G, B, ...), at `tables`. A block of B photos and M recipes is G = 1; B photos
            with K candidates each are G = B groups of 1 photo and K recipes.
        recipe: (G, M, ...), at `tables`.
        weights: of the same model.
    """
    return match_score(*_block_means(image, recipe, weights), weights)


def _block_means(
    image: PaddedEncodings, recipe: PaddedEncodings, weights: FoldedWeights
) -> tuple[Tensor, Tensor]:
    """mean co1 and mean co2 of every pair of a group, each (G, B, M, d)."""
    image_mean = _fused_mean(image, recipe, weights.image).transpose(1, 2)
    return image_mean, _fused_mean(recipe, image, weights.recipe)


def attend(own: PaddedEncodings, other: PaddedEncodings, heads: int) -> tuple[Tensor, Tensor]:
    """What each token of one side reads on the other, and how far its gate opens.

    Args:
        own: (G, N, n, ...) tokens that read.
        other: (G, O, o, ...) tokens that are read; its padding gets no attention.
        heads: H.

    Returns:
        attention (G, H, N, n, O, o), summing to 1 over o, and gates (G, N, n, O) in (0, 1).
    """
    groups, _, _, width = own.query.shape
    padding = padding_bias(other.lengths, other.key.shape[2], own.query.dtype)

    def products(left: Tensor, right: Tensor) -> Tensor:
        """(G, N, n, d) and (G, O, o, d) -> inner products of each head (G, H, N, n, O, o)."""
        sizes = (*left.shape[1:3], *right.shape[1:3])
        left = left.reshape(groups, -1, heads, width // heads).transpose(1, 2)
        right = right.reshape(groups, -1, heads, width // heads).permute(0, 2, 3, 1)
        return (left @ right).reshape(groups, heads, *sizes)

    logits = products(own.query * (heads / width) ** 0.5, other.key)
    attention = torch.softmax(logits + padding[:, None, None, None], dim=-1)
    agreement = (attention * products(own.gate, other.value)).sum(dim=(1, 5))
    return attention, torch.sigmoid(agreement + own.gate_bias[..., None])


def _fused_mean(own: PaddedEncodings, other: PaddedEncodings, weights: FoldedItemWeights) -> Tensor:
    """mean co: own (G, N, n, ...), other (G, O, o, ...) at `tables` -> (G, O, N, d)."""
    assert other.table is not None
    groups, count, size, width = own.fuse.shape
    others, heads = other.table.shape[1:3]
    attention, gate = attend(own, other, heads)
    # The gate scales the attention, n x H o numbers, rather than what it gathers, n x d.
    shares = (attention * gate[:, None, ..., None]).permute(0, 4, 2, 3, 1, 5)
    table = other.table.reshape(groups * others, -1, width)
    gated = torch.addcmul(weights.fuse_bias, gate.permute(0, 3, 1, 2)[..., None], own.fuse[:, None])
    # In place: these (n x d) a pair are nearly all of the memory, with and without gradients.
    fused = gated.to(table.dtype).reshape(groups * others, count * size, width)
    fused.baddbmm_(shares.reshape(groups * others, count * size, -1).to(table.dtype), table)
    fused = fused.relu_().view(groups, others, count, size, width)
    share = token_share(own.lengths, size, fused.dtype)
    return (share[:, None, :, None] @ fused)[..., 0, :] + own.mean[:, None]


def match_score(image_mean: Tensor, recipe_mean: Tensor, weights: FoldedWeights) -> Tensor:
    """σ(MLP([L2(image_mean) ; L2(recipe_mean)])): (..., d) twice -> (...)."""
    joined = torch.cat([unit_rows(image_mean), unit_rows(recipe_mean)], dim=-1)
    hidden = F.linear(joined, weights.match_hidden, weights.match_hidden_bias).relu()
    logit = F.linear(hidden, weights.match_output, weights.match_output_bias)[..., 0]
    return torch.sigmoid(at_least_float32(logit))


def padding_bias(lengths: Tensor, slots: int, dtype: torch.dtype) -> Tensor:
    """lengths (...) -> (..., T): 0 for tokens, `MASKED` for padding."""
    padded = torch.arange(slots, device=lengths.device) >= lengths[..., None]
    return padded.to(dtype) * MASKED


def token_share(lengths: Tensor, slots: int, dtype: torch.dtype) -> Tensor:
    """lengths (...) -> (..., T): 1 / length for tokens, 0 for padding: a masked mean's weights."""
    valid = torch.arange(slots, device=lengths.device) < lengths[..., None]
    return valid.to(dtype) / lengths[..., None].to(dtype)
