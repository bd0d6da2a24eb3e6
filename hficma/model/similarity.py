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

What depends on one side is in `Side`, made by `project` (query, key, value, gate p, fuse a,
gate_bias s, mean) and `tabulate` (table t). What is left for a pair is in `pair_scores`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

MASKED = -1e4
"""Added to the logits of padded tokens: exp underflows to 0 in every precision, never NaN."""

TILE_PAIRS = 16
"""Pairs scored at once without gradients: what keeps the working set in a core's cache."""


class SideWeights(NamedTuple):
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


class SpineWeights(NamedTuple):
    """Everything that `project`, `tabulate` and `pair_scores` read."""

    image: SideWeights
    recipe: SideWeights
    match_hidden: Tensor
    """(d, 2 d): first layer of the matching MLP."""
    match_hidden_bias: Tensor
    """(d,)."""
    match_output: Tensor
    """(1, d)."""
    match_output_bias: Tensor
    """(1,)."""


@dataclass(frozen=True)
class Side:
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

    def select(self, items: Tensor) -> Side:
        """The given items (any index shape), padded only to the longest of them."""
        lengths = self.lengths[items]
        longest = int(lengths.max())
        chosen = {"mean": self.mean[items], "lengths": lengths}
        for name in ("query", "key", "value", "gate", "fuse", "gate_bias"):
            chosen[name] = getattr(self, name)[:, :longest][items]
        if self.table is not None:
            chosen["table"] = self.table[:, :, :longest][items]
        return Side(**chosen)

    def grouped(self, shape: tuple[int, int]) -> Side:
        """The same items with the leading dimension split into (G, N)."""
        arrays: dict[str, Tensor | None] = {f.name: getattr(self, f.name) for f in fields(self)}
        return Side(
            **{
                name: array.reshape(*shape, *array.shape[1:])
                for name, array in arrays.items()
                if array is not None
            }
        )


def project(tokens: Tensor, lengths: Tensor, weights: SideWeights) -> Side:
    """Everything of one side that is linear in its tokens: once per photo or recipe.

    Args:
        tokens: (N, n, d), unit rows; padded rows are zero.
        lengths: (N,) int64, at least 1.
        weights: of the side.
    """
    projected = F.linear(tokens, weights.projection, weights.projection_bias)
    query, key, value, gate, fuse = projected.chunk(5, dim=-1)
    return Side(
        query=query,
        key=key,
        value=value,
        gate=gate,
        fuse=fuse,
        gate_bias=tokens @ weights.gate_bias,
        mean=tokens.sum(dim=-2) / lengths[:, None].to(tokens.dtype),
        lengths=lengths,
    )


def tabulate(side: Side, weights: SideWeights) -> Side:
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
    image: Side,
    recipe: Side,
    weights: SpineWeights,
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
    recording = torch.is_grad_enabled()
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


def _tiled(
    image: Side, recipe: Side, weights: SpineWeights, tile: int, *, recompute: bool
) -> Tensor:
    """The block (B, M) in tiles of similar lengths, so that little padding is computed."""
    photos = torch.arange(image.mean.shape[0], device=image.mean.device)
    by_length = torch.argsort(recipe.lengths)
    rows = max(1, min(len(photos), int(tile**0.5)))
    columns = max(1, tile // rows)
    strips = []
    for wanted in by_length.split(columns):
        part = recipe.select(wanted)
        if part.table is None:
            part = tabulate(part, weights.recipe)
        part = part.grouped((1, -1))
        strip = []
        for chosen in photos.split(rows):
            block = image.select(chosen) if len(photos) > rows else image
            block = block.grouped((1, -1))
            if recompute:
                scores = checkpoint(pair_block, block, part, weights, use_reentrant=False)
            else:
                scores = pair_block(block, part, weights)
            strip.append(scores[0])
        strips.append(torch.cat(strip))
    back = torch.argsort(by_length)
    return torch.cat(strips, dim=1)[:, back]


class _Attention(NamedTuple):
    """Both directions of a group of blocks, for G groups of B photos and M recipes."""

    recipe_to_image: Tensor
    """A12 (G, H, B, R, M, T): each region's attention over the ingredients."""
    image_to_recipe: Tensor
    """A21 (G, H, M, T, B, R): each ingredient's attention over the regions."""
    image_gate: Tensor
    """g1 (G, B, R, M)."""
    recipe_gate: Tensor
    """g2 (G, M, T, B)."""


def _attend(image: Side, recipe: Side, heads: int) -> _Attention:
    groups, width = image.query.shape[0], image.query.shape[-1]
    padding = padding_bias(recipe.lengths, recipe.query.shape[2], image.query.dtype)

    def product(left: Tensor, right: Tensor) -> Tensor:
        """(G, a, i, d) and (G, b, j, d) -> (G, H, a, i, b, j), a head's inner products."""
        items, size = left.shape[1:3]
        others, other_size = right.shape[1:3]
        flat_left = left.reshape(groups, items * size, heads, -1).transpose(1, 2)
        flat_right = right.reshape(groups, others * other_size, heads, -1).permute(0, 2, 3, 1)
        return (flat_left @ flat_right).view(groups, heads, items, size, others, other_size)

    scale = (width // heads) ** -0.5
    logits = product(image.query * scale, recipe.key) + padding[:, None, None, None]
    a12 = torch.softmax(logits, dim=-1)
    a21 = torch.softmax(product(recipe.query * scale, image.key), dim=-1)
    gate1 = (a12 * product(image.gate, recipe.value)).sum(dim=(1, 5))
    gate2 = (a21 * product(recipe.gate, image.value)).sum(dim=(1, 5))
    return _Attention(
        recipe_to_image=a12,
        image_to_recipe=a21,
        image_gate=torch.sigmoid(gate1 + image.gate_bias[..., None]),
        recipe_gate=torch.sigmoid(gate2 + recipe.gate_bias[..., None]),
    )


def pair_block(image: Side, recipe: Side, weights: SpineWeights) -> Tensor:
    """S_local of every photo and recipe within each group: sides (G, B, ...), (G, M, ...)."""
    assert image.table is not None
    assert recipe.table is not None
    groups, photos, regions, width = image.query.shape
    recipes, slots = recipe.query.shape[1:3]
    heads = weights.image.table.shape[0]
    attention = _attend(image, recipe, heads)

    # Scaling the attention by the gate is (R x H T) work; scaling what it gathers, (R x d).
    gate1 = attention.image_gate
    gathered = (attention.recipe_to_image * gate1[:, None, ..., None]).permute(0, 4, 2, 3, 1, 5)
    co1 = torch.addcmul(
        weights.image.fuse_bias,
        gate1.permute(0, 3, 1, 2)[..., None],
        image.fuse[:, None],
    ).view(groups * recipes, photos * regions, width)
    co1.baddbmm_(
        gathered.reshape(groups * recipes, photos * regions, heads * slots),
        recipe.table.reshape(groups * recipes, heads * slots, width),
    )
    mean1 = co1.relu_().view(groups, recipes, photos, regions, width).mean(dim=3).transpose(1, 2)
    mean1 = mean1 + image.mean[:, :, None]

    gate2 = attention.recipe_gate
    gathered = (attention.image_to_recipe * gate2[:, None, ..., None]).permute(0, 4, 2, 3, 1, 5)
    co2 = torch.addcmul(
        weights.recipe.fuse_bias,
        gate2.permute(0, 3, 1, 2)[..., None],
        recipe.fuse[:, None],
    ).view(groups * photos, recipes * slots, width)
    co2.baddbmm_(
        gathered.reshape(groups * photos, recipes * slots, heads * regions),
        image.table.reshape(groups * photos, heads * regions, width),
    )
    share = token_share(recipe.lengths, slots, co2.dtype)
    mean2 = share[:, None, :, None] @ co2.relu_().view(groups, photos, recipes, slots, width)
    mean2 = mean2[..., 0, :] + recipe.mean[:, None]

    return match_score(mean1, mean2, weights)


def match_score(image_mean: Tensor, recipe_mean: Tensor, weights: SpineWeights) -> Tensor:
    """σ(MLP([L2(image_mean) ; L2(recipe_mean)])): (..., d) twice -> (...)."""
    joined = torch.cat(
        [F.normalize(image_mean.float(), dim=-1), F.normalize(recipe_mean.float(), dim=-1)]
        if image_mean.dtype != torch.float64
        else [F.normalize(image_mean, dim=-1), F.normalize(recipe_mean, dim=-1)],
        dim=-1,
    ).to(weights.match_hidden.dtype)
    hidden = F.linear(joined, weights.match_hidden, weights.match_hidden_bias).relu()
    logit = F.linear(hidden, weights.match_output, weights.match_output_bias)[..., 0]
    return torch.sigmoid(logit if logit.dtype == torch.float64 else logit.float())


def padding_bias(lengths: Tensor, slots: int, dtype: torch.dtype) -> Tensor:
    """lengths (...) -> (..., T): 0 for tokens, `MASKED` for padding."""
    padded = torch.arange(slots, device=lengths.device) >= lengths[..., None]
    return padded.to(dtype) * MASKED


def token_share(lengths: Tensor, slots: int, dtype: torch.dtype) -> Tensor:
    """lengths (...) -> (..., T): 1 / length for tokens, 0 for padding: a masked mean's weights."""
    valid = torch.arange(slots, device=lengths.device) < lengths[..., None]
    return valid.to(dtype) / lengths[..., None].to(dtype)
