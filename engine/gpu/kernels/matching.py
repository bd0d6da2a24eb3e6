r"""The matching MLP of (7): two means of a pair to one logit, without joining or dividing them.

The first layer is linear, so the norms are applied behind it, and each is summed while its mean is
read for the product:

    hidden = ReLU((W_1 c_1) / |c_1| + (W_2 c_2) / |c_2| + b)       W = [W_1 W_2]: (D, 2 D)
    logit  = w_out · hidden + b_out

                D                          D
           ┌─────────┐   D  ┌──────┐  ┌─────────┐      ┌──────┐
    PAIRS  │   c_1   │  x   │ W_1ᵀ │  │   c_2   │  x   │ W_2ᵀ │   -> PAIRS x COLUMNS of hidden
           └─────────┘      └──────┘  └─────────┘      └──────┘   -> its part of w_out · hidden

Parts of the logit are written (P, D / COLUMNS) and added by torch: sums whose order is fixed.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hficma.model.similarity import FoldedWeights

from .tile_shapes import matching_tile


@triton.jit(do_not_specialize=["pairs"])
def matching_kernel(
    image_means, recipe_means, hidden, hidden_bias, output, parts,
    pairs,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Compute COLUMNS hidden units of ROWS pairs, and their part of the logits."""
    column_tiles: tl.constexpr = (WIDTH + COLUMNS - 1) // COLUMNS
    column_tile = tl.program_id(0) % column_tiles
    pair = (tl.program_id(0) // column_tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    is_pair = pair < pairs
    column = column_tile * COLUMNS + tl.arange(0, COLUMNS)
    is_column = column < WIDTH
    step = tl.arange(0, DEPTH)
    image = tl.zeros((ROWS, COLUMNS), tl.float32)
    recipe = tl.zeros((ROWS, COLUMNS), tl.float32)
    image_square = tl.zeros((ROWS,), tl.float32)
    recipe_square = tl.zeros((ROWS,), tl.float32)
    for done in range(0, WIDTH, DEPTH):
        feature = done + step
        is_feature = feature < WIDTH
        both = is_pair[:, None] & is_feature[None, :]
        place = pair[:, None] * WIDTH + feature[None, :]
        # Weights are (D, 2 D) with the features innermost: read transposed.
        weight = hidden + column[None, :] * (2 * WIDTH) + feature[:, None]
        is_weight = is_feature[:, None] & is_column[None, :]
        left = tl.load(image_means + place, mask=both, other=0.0)
        right = tl.load(weight, mask=is_weight, other=0.0)
        image = tl.dot(left, right, image, input_precision="ieee")
        wide = left.to(tl.float32)
        image_square += tl.sum(wide * wide, 1)
        left = tl.load(recipe_means + place, mask=both, other=0.0)
        right = tl.load(weight + WIDTH, mask=is_weight, other=0.0)
        recipe = tl.dot(left, right, recipe, input_precision="ieee")
        wide = left.to(tl.float32)
        recipe_square += tl.sum(wide * wide, 1)
    # 1e-12 is the published guard: a mean of zeros stays zeros.
    image = image / tl.maximum(tl.sqrt(image_square), 1e-12)[:, None]
    recipe = recipe / tl.maximum(tl.sqrt(recipe_square), 1e-12)[:, None]
    shift = tl.load(hidden_bias + column, mask=is_column, other=0.0).to(tl.float32)
    units = tl.maximum(image + recipe + shift[None, :], 0.0)
    weight = tl.load(output + column, mask=is_column, other=0.0).to(tl.float32)
    part = tl.sum(units * weight[None, :], 1)
    tl.store(parts + pair * column_tiles + column_tile, part, mask=is_pair)


def match(image_means: Tensor, recipe_means: Tensor, weights: FoldedWeights) -> Tensor:
    """Compute S_local from both means of P pairs.

    Args:
        image_means: c_1 (P, D).
        recipe_means: c_2 (P, D).
        weights: of the model; `match_hidden` in the means' precision, the rest float32.

    Returns:
        (P,) float32.
    """
    pairs, width = image_means.shape
    tile = matching_tile(pairs, width)
    column_tiles = triton.cdiv(width, tile.columns)
    parts = torch.empty(pairs, column_tiles, device=image_means.device)
    matching_kernel[(triton.cdiv(pairs, tile.rows) * column_tiles,)](
        image_means, recipe_means, weights.match_hidden, weights.match_hidden_bias,
        weights.match_output, parts, pairs,
        WIDTH=width, **tile.constants(), **tile.launch(),
    )  # fmt: skip
    return torch.sigmoid(parts.sum(1) + weights.match_output_bias)
