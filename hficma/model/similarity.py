r"""S_local in its fast, exact form: what each item gives alone, and one small product a pair.

The local score of HF-ICMA (SIGIR 2021) is cross-attention between the R regions of a photo and the
T ingredients of a recipe, followed by a gated fusion of what each token is with what it reads. The
numbers in brackets are this page's. The same equations stand as plain layers, one after the other,
in `published_attention.py`, to which tests hold this file in value and in every gradient.

Published form
--------------

V1 (R, D) are the photo's tokens and V2 (T, D) the recipe's. The attention has H heads of D / H
features; L(x) = x Wᵀ + b is a linear layer as torch stores it. L1, L2, L3 and L4 are the
attention's query, key, value and output layers, shared by both directions; K_1 and K_2 are a
photo's and a recipe's bias-free key layers, F_1 and F_2 their fusion layers, from 2 D to D. (The
released code calls them `linears1` to `linears4`, `img_key_fc`, `txt_key_fc`, `fc_1` and `fc_2`,
and the MLP `fc_out`.) Subscript h is one head's slice of the features:

                    D                        D
           ┌─────┬─────┬─────┐              ┌─────┐
    x:   L │ h=0 │ h=1 │ ... │       x_h: L │ D/H │       [a ; b] joins features: (L, 2 D)
           └─────┴─────┴─────┘              └─────┘

The direction in which regions read ingredients; the other has 1 and 2 swapped:

    (1)  Q_1 = L1(K_1 V1)    Y_2 = L2(K_2 V2)    U_2 = L3(V2)                 (R, D) (T, D) (T, D)
    (2)  A_h = softmax(Q_1h Y_2hᵀ / √(D/H))      padding of the recipe masked (R, T)
    (3)  X = concat_h A_h U_2h                                                (R, D)
    (4)  g = σ(rowsum(V1 ⊙ L4(X)))               one gate a token             (R)
    (5)  C_1 = ReLU(F_1(g ⊙ [V1 ; L4(X)])) + V1                               (R, D)
    (6)  c_1 = mean over tokens of C_1                                        (D)
    (7)  S_local = σ(MLP([c_1/|c_1| ; c_2/|c_2|]))                            a number

The released code takes the mean of (6) over all 20 slots of a recipe, filled or not; here it is
over the tokens that there are, so that padding never changes a score. With 20 ingredients both
agree.

Computed so, a pair costs 440 million multiply-adds at the published sizes (D = 1024, R = 49,
T = 20), nearly all in linear layers that are run again for each pair.

Fast form
---------

Four steps, each an identity of linear algebra, leave a pair 22 million. W4, b4 are the weight and
bias of L4; F_1 has the bias f_1 and the weight [Wa Wb], whose halves meet V1 and L4(X).

(a) The gate needs no output layer. Row by row v · L4(x) = v · (W4 x + b4) = (v W4) · x + v · b4, so
    with `gate` P_1 = V1 W4 and `gate_bias` s_1 = V1 b4, both of the photo alone, and (3):

        g = σ(Σ_h rowsum(A_h ⊙ (P_1h U_2hᵀ)) + s_1)                           from (4)

    The sum over tokens is of R x T numbers a head, not of R x D.
(b) The gate is one number a token, so it commutes with a linear map of that token's features:

        F_1(g ⊙ [V1 ; L4(X)]) = g ⊙ (V1 Waᵀ + L4(X) Wbᵀ) + f_1                from (5)
                              = g ⊙ (a_1 + X (Wb W4)ᵀ) + f_1
    with `fuse` a_1 = V1 Waᵀ + b4 Wbᵀ, of the photo alone.
(c) Wb W4 is one matrix of weights, and X is linear in the recipe's values. Head by head it is
    multiplied into them, once per recipe, which gives its `table`:

        t_2h = U_2h ((Wb W4)ᵀ)_h    (H, T, D)        ( )_h: the D/H rows that meet head h
        X (Wb W4)ᵀ = Σ_h A_h t_2h = [A_0 ... A_H-1] [t_20 ; ... ; t_2,H-1]

    The last form is one product, (R, H T) by (H T, D), in place of one by (D, D) for each pair.
(d) The mean of V1 does not depend on the recipe: c_1 = mean(ReLU(...)) + `mean` V1.

Multiply-adds a pair at the published sizes, as each step takes work out of it:

    440 M    as published
    223 M    (1) once per item
     78 M    (a) and (b): no output layer, one folded matrix in place of two
     43 M    (c), the recipe's table computed for the pair
     22 M    (c), both tables stored: attention 4, gathering 16, the MLP of (7) 2

So the work falls into what depends on weights alone (`CrossFusion.fold`, giving `FoldedWeights`),
on one item alone (`project`: query, key, value, gate, fuse, gate_bias, mean; `tabulate`: table;
both held in `PaddedEncodings`, and by an index), and on a pair (`pair_block`). No step
approximates: in float64 both forms differ by 1e-16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .numerics import at_least_float32, mean_weights, padding_bias, unit_rows


class FoldedItemWeights(NamedTuple):
    """The folded weights that one kind of item meets: photos (index 1) or recipes (index 2).

    The comments are for photos; for recipes 1 and 2 are swapped.
    """

    projection: Tensor
    """(5 D, D): L1 K_1, L2 K_1, L3, W4ᵀ and Wa, one below the other."""
    projection_bias: Tensor
    """(5 D,): the biases of L1, L2, L3, zeros, and Wb b4."""
    gate_bias: Tensor
    """(D,): b4, which gives s_1 of step (a)."""
    table: Tensor
    """(H, D / H, D): (Wb W4)ᵀ of step (c), a head's rows to a slice, with the Wb of F_2: a photo's
    table is read by recipes."""
    fuse_bias: Tensor
    """(D,): f_1."""

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> FoldedItemWeights:
        """Return the weights on a device, in a precision, or both."""
        return FoldedItemWeights(*(tensor.to(device=device, dtype=dtype) for tensor in self))


class FoldedWeights(NamedTuple):
    """Everything that `project`, `tabulate` and `pair_block` read of a model."""

    image: FoldedItemWeights
    recipe: FoldedItemWeights
    match_hidden: Tensor
    """(D, 2 D): first layer of the MLP of (7)."""
    match_hidden_bias: Tensor
    """(D,)."""
    match_output: Tensor
    """(1, D): second layer."""
    match_output_bias: Tensor
    """(1,)."""

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> FoldedWeights:
        """Return the weights on a device, in a precision, or both."""
        rest = (tensor.to(device=device, dtype=dtype) for tensor in self[2:])
        return FoldedWeights(self.image.to(device, dtype), self.recipe.to(device, dtype), *rest)


@dataclass(frozen=True)
class PaddedEncodings:
    """What pair scores need of N photos or N recipes, each padded to L tokens.

    Inside `pair_block` the leading axis is two, (G, N): groups, and the items of each.
    """

    query: Tensor
    """(N, L, D)."""
    key: Tensor
    """(N, L, D)."""
    value: Tensor
    """(N, L, D): U."""
    gate: Tensor
    """(N, L, D): P of step (a)."""
    fuse: Tensor
    """(N, L, D): a of step (b)."""
    gate_bias: Tensor
    """(N, L): s of step (a)."""
    mean: Tensor
    """(N, D): mean of the item's tokens, step (d)."""
    lengths: Tensor
    """(N,) int64: tokens that are not padding."""
    table: Tensor | None = None
    """(N, H, L, D): t of step (c), or None at the level `projections`."""

    def select(self, items: Tensor | slice) -> PaddedEncodings:
        """Return some items, padded only to the longest of them; a slice copies nothing.

        Args:
            items: their positions, or a slice of them.
        """
        lengths = self.lengths[items]
        longest = int(lengths.max())
        chosen = {"mean": self.mean[items], "lengths": lengths}
        for name in ("query", "key", "value", "gate", "fuse", "gate_bias"):
            chosen[name] = getattr(self, name)[items, :longest]
        if self.table is not None:
            chosen["table"] = self.table[items, :, :longest]
        return PaddedEncodings(**chosen)

    def split(self, sizes: Sequence[int]) -> list[PaddedEncodings]:
        """Cut into consecutive runs of items.

        One `Tensor.split` of each array: its gradient is one copy, where that of as many slices
        would be a sum of arrays full of zeros.

        Args:
            sizes: items of each run; N together.
        """
        parts = {name: array.split(list(sizes)) for name, array in self._arrays().items()}
        return [
            PaddedEncodings(**{name: part[run] for name, part in parts.items()})
            for run in range(len(sizes))
        ]

    def grouped(self, shape: tuple[int, int]) -> PaddedEncodings:
        """Return the same items with the leading axis split into (G, N)."""
        return PaddedEncodings(
            **{
                name: array.reshape(*shape, *array.shape[1:])
                for name, array in self._arrays().items()
            }
        )

    def to(self, dtype: torch.dtype) -> PaddedEncodings:
        """Return the items in another precision; lengths stay whole numbers."""
        return PaddedEncodings(
            **{
                name: array.to(dtype) if array.is_floating_point() else array
                for name, array in self._arrays().items()
            }
        )

    def _arrays(self) -> dict[str, Tensor]:
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: array for name, array in arrays.items() if array is not None}


def project(tokens: Tensor, lengths: Tensor, weights: FoldedItemWeights) -> PaddedEncodings:
    """Compute everything of an item that is linear in its tokens: once per photo or recipe.

    Args:
        tokens: V (N, L, D), unit rows; padded rows are zero.
        lengths: (N,) int64, at least 1.
        weights: of the items' kind.

    Returns:
        the items at the level `projections`; what stands at padded tokens means nothing.
    """
    # One product by five matrices below each other: (N, L, D) -> (N, L, 5 D).
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


def tabulate(encodings: PaddedEncodings, weights: FoldedItemWeights) -> PaddedEncodings:
    """Raise items from the level `projections` to `tables`: step (c), t_h = U_h ((Wb W4)ᵀ)_h.

    Args:
        encodings: N items with `value` (N, L, D).
        weights: of the items' kind.

    Returns:
        the same with `table` (N, H, L, D).
    """
    heads, head_width, width = weights.table.shape
    count, size = encodings.value.shape[:2]
    # One product a head over all items at once fills the machine better than one an item:
    # (N, L, D) -> (H, N L, D/H), times (H, D/H, D) -> (H, N L, D).
    values = encodings.value.reshape(count * size, heads, head_width).transpose(0, 1)
    table = torch.bmm(values, weights.table).view(heads, count, size, width)
    return replace(encodings, table=table.transpose(0, 1).contiguous())


def pair_block(image: PaddedEncodings, recipe: PaddedEncodings, weights: FoldedWeights) -> Tensor:
    """Compute S_local of every photo with every recipe of its group.

    Args:
        image: (G, B, ...), at `tables`. A block of B photos and M recipes is G = 1; B photos
            with K candidates each are G = B groups of 1 photo and K recipes.
        recipe: (G, M, ...), at `tables`.
        weights: of the same model.

    Returns:
        (G, B, M), float32 or wider.
    """
    return match_score(*fused_means(image, recipe, weights), weights)


def fused_means(
    image: PaddedEncodings, recipe: PaddedEncodings, weights: FoldedWeights
) -> tuple[Tensor, Tensor]:
    """Compute c_1 and c_2 of (6) for every pair of a group, each (G, B, M, D).

    Args:
        image: (G, B, ...), at `tables`.
        recipe: (G, M, ...), at `tables`.
        weights: of the same model.
    """
    image_mean = _fused_mean(image, recipe, weights.image)  # (G, M, B, D)
    recipe_mean = _fused_mean(recipe, image, weights.recipe)  # (G, B, M, D)
    return image_mean.transpose(1, 2), recipe_mean


def attend(reader: PaddedEncodings, source: PaddedEncodings, heads: int) -> tuple[Tensor, Tensor]:
    """Compute what each token reads on the other kind of item, and how far its gate opens.

    Equations (2) and (a), of N items whose n tokens read and O items whose o tokens are read:

        products(Q, Y):   (G, N, n, D) -> (G, H, N n, D/H)                 one matrix a head
                          (G, O, o, D) -> (G, H, D/H, O o)                 and their product,
                                       -> (G, H, N, n, O, o)               all tokens with all

    Args:
        reader: (G, N, n, ...) items whose tokens read.
        source: (G, O, o, ...) items that are read; their padding gets no attention.
        heads: H.

    Returns:
        attention (G, H, N, n, O, o), summing to 1 over o, and gates (G, N, n, O) in (0, 1).
    """
    groups, _, _, width = reader.query.shape
    padding = padding_bias(source.lengths, source.key.shape[2], reader.query.dtype)  # (G, O, o)

    def products(left: Tensor, right: Tensor) -> Tensor:
        sizes = (*left.shape[1:3], *right.shape[1:3])
        left = left.reshape(groups, -1, heads, width // heads).transpose(1, 2)
        right = right.reshape(groups, -1, heads, width // heads).permute(0, 2, 3, 1)
        return (left @ right).reshape(groups, heads, *sizes)

    # Scaled before the product: D numbers a token, not O o.
    logits = products(reader.query * (heads / width) ** 0.5, source.key)
    attention = torch.softmax(logits + padding[:, None, None, None], dim=-1)
    agreement = (attention * products(reader.gate, source.value)).sum(dim=(1, 5))  # over h and o
    return attention, torch.sigmoid(agreement + reader.gate_bias[..., None])


def _fused_mean(
    reader: PaddedEncodings, source: PaddedEncodings, weights: FoldedItemWeights
) -> Tensor:
    """Compute c of (6): reader (G, N, n, ...), source (G, O, o, ...) -> (G, O, N, D).

    With steps (b) and (c), c = mean(ReLU(g ⊙ a + Σ_h (g ⊙ A_h) t_h + f)) + mean V.
    """
    assert source.table is not None
    groups, count, size, width = reader.fuse.shape
    others, heads = source.table.shape[1:3]
    attention, gate = attend(reader, source, heads)
    # The gate scales the attention, H o numbers a token, rather than what it gathers, D.
    # Laid out for one product an item that is read, all tokens that read it below each other:
    #     shares (G, H, N, n, O, o) -> (G O, N n, H o)      table (G, O, H, o, D) -> (G O, H o, D)
    shares = (attention * gate[:, None, ..., None]).permute(0, 4, 2, 3, 1, 5)
    table = source.table.reshape(groups * others, -1, width)
    # f + g ⊙ a: (G, O, N, n, 1) times (G, 1, N, n, D).
    gated = torch.addcmul(
        weights.fuse_bias, gate.permute(0, 3, 1, 2)[..., None], reader.fuse[:, None]
    )
    # In place: these (n, D) a pair are nearly all of the memory, with and without gradients.
    fused = gated.to(table.dtype).reshape(groups * others, count * size, width)
    fused.baddbmm_(shares.reshape(groups * others, count * size, -1).to(table.dtype), table)
    fused = fused.relu_().view(groups, others, count, size, width)
    means = mean_weights(reader.lengths, size, fused.dtype)  # (G, N, n)
    return (means[:, None, :, None] @ fused)[..., 0, :] + reader.mean[:, None]


def match_score(image_mean: Tensor, recipe_mean: Tensor, weights: FoldedWeights) -> Tensor:
    """Compute S_local of (7) from c_1 and c_2.

    Args:
        image_mean: c_1 (..., D).
        recipe_mean: c_2 (..., D).
        weights: of the model.

    Returns:
        (...) in (0, 1), float32 or wider.
    """
    joined = torch.cat([unit_rows(image_mean), unit_rows(recipe_mean)], dim=-1)
    hidden = F.linear(joined, weights.match_hidden, weights.match_hidden_bias).relu()
    logit = F.linear(hidden, weights.match_output, weights.match_output_bias)[..., 0]
    return torch.sigmoid(at_least_float32(logit))
