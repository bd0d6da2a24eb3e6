"""Heads: layers that bring what encoders give of a photo or a recipe into the joint space.

    photo ──▶ pooled features ──────────────────────────────▶ Head ──▶ global vector (D_g)

    title ────────▶ mean over its vectors ─┐
    ingredients ──▶ mean ──────────────────┼▶ side by side ──▶ Head ──▶ global vector (D_g)
    instructions ─▶ mean ──────────────────┘

A recipe's means are taken field by field: one mean over everything would be the instructions',
which have ten times the words of the ingredients, and ingredients say more of a dish.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..config import HeadConfig, ModelConfig
from ..numerics import at_least_float32, unit_rows


class Centred(nn.Module):
    """Vectors without what all have in common, brought to one length.

    Features after a ReLU, and means of many words, point nearly the same way whatever they are of;
    what tells items apart is the small rest. The mean of the training pairs, which training fills
    in when it begins (`hficma.training.data.feature_means`), is taken off, and the rest brought
    to the length √D, about that of D numbers of variance 1. A vector that is not there stays zero.

    Args:
        width: D.
    """

    mean: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.length = math.sqrt(width)

    def forward(self, vectors: Tensor, present: Tensor | None = None) -> Tensor:
        """Centre vectors (N, D).

        Args:
            vectors: (N, D).
            present: (N,) of 1 and 0: which are there; None: all of them.
        """
        centred = unit_rows(vectors.to(self.mean.dtype) - self.mean) * self.length
        return centred if present is None else centred * present.to(centred.dtype)[:, None]


class Head(nn.Module):
    """One layer, or two with GELU between them, from one or several vectors of an item.

    Args:
        config: layers, hidden width and dropout.
        widths: D of each of the vectors.
        output: D_g; read where there are layers.
        cosine: bring global vectors to unit length.

    Attributes:
        width: D_g.
    """

    def __init__(
        self, config: HeadConfig, widths: Sequence[int], output: int | None, *, cosine: bool
    ) -> None:
        super().__init__()
        self.cosine = cosine
        self.dropout = nn.Dropout(config.dropout)
        self.parts = nn.ModuleList()
        self.layers = nn.ModuleList()
        if config.layers == "none":
            if len(set(widths)) > 1:
                raise ValueError("without layers all vectors must have one width")
            self.width = widths[0]
            return
        assert output is not None  # `ModelConfig` sees to that
        self.width = output
        if config.layers == "projection":
            self.layers.append(nn.Linear(sum(widths), output, bias=False))
            return
        self.parts.extend(Centred(width) for width in widths)
        hidden = [config.hidden] if config.layers == "mlp" else []
        sizes = [sum(widths), *hidden, output]
        self.layers.extend(nn.Linear(inner, outer) for inner, outer in pairwise(sizes))

    def forward(self, vectors: Sequence[Tensor], present: Sequence[Tensor | None]) -> Tensor:
        """Map the vectors of N items to their global vectors (N, D_g).

        Args:
            vectors: (N, D) each.
            present: of each vector (N,) of 1 and 0, which items have it; None: all have.
        """
        if not self.layers:
            # Vectors of absent fields are zero: the sum points where the mean of the others does.
            result = torch.stack([at_least_float32(one) for one in vectors]).sum(dim=0)
        elif not self.parts:
            projection = self.layers[0]
            assert isinstance(projection, nn.Linear)
            wide = [one.to(projection.weight.dtype) for one in vectors]
            result = projection(self.dropout(torch.cat(wide, dim=-1)))
        else:
            centred = [
                part(one, there)
                for part, one, there in zip(self.parts, vectors, present, strict=True)
            ]
            result = torch.cat(centred, dim=-1)
            for number, layer in enumerate(self.layers):
                result = layer(self.dropout(nn.functional.gelu(result) if number else result))
        return unit_rows(at_least_float32(result)) if self.cosine else result


class GlobalProjection(nn.Module):
    """The published head: brings a global vector to the index's width, and `cosine` to length 1.

    As published there is neither: D_g is then 2 D, and S_global a plain inner product.

    Args:
        config: of the model.
        input_width: width of the vectors as the encoder gives them.
    """

    def __init__(self, config: ModelConfig, input_width: int) -> None:
        super().__init__()
        self.cosine = config.global_similarity == "cosine"
        self.linear = (
            nn.Linear(input_width, config.global_dim) if config.global_dim is not None else None
        )

    def forward(self, vectors: Tensor) -> Tensor:
        """Map vectors (N, input width) to (N, D_g)."""
        if self.linear is not None:
            vectors = self.linear(vectors.to(self.linear.weight.dtype))
        return unit_rows(at_least_float32(vectors)) if self.cosine else vectors


class HeadEnsemble(nn.Module):
    """Heads of several runs side by side: one vector, whose products are the means of theirs.

    With u_k and v_k the vectors of a photo and a recipe by head k of n, [u_1 ... u_n] / √n and
    [v_1 ... v_n] / √n have the inner product (u_1 v_1 + ... + u_n v_n) / n. So an index, its
    prefilter and its certificate need to know nothing of it.

    Args:
        heads: n of them, which read the same vectors.

    Attributes:
        width: D_g, the sum of the heads' own.
    """

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        self.members = nn.ModuleList(heads)
        self.width = sum(head.width for head in heads)
        self.scale = 1 / math.sqrt(len(heads))

    def forward(self, vectors: Sequence[Tensor], present: Sequence[Tensor | None]) -> Tensor:
        """Map the vectors of N items to their global vectors (N, D_g); see `Head.forward`."""
        return self.scale * torch.cat([head(vectors, present) for head in self.members], dim=-1)


def make_head(
    config: HeadConfig, widths: Sequence[int], output: int | None, *, cosine: bool, members: int
) -> Head | HeadEnsemble:
    """Build a head, or an ensemble of `members` of them; see `Head` for the other arguments."""
    heads = [Head(config, widths, output, cosine=cosine) for _ in range(members)]
    return heads[0] if members == 1 else HeadEnsemble(heads)


def field_mean(vectors: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """Average the vectors of one field of each recipe.

    Args:
        vectors: (M, N, D), of all fields.
        members: (M, N) of 1 and 0, which of them are of the field.

    Returns:
        the means (M, D), zero where a recipe lacks the field; and (M,) of 1 and 0, who has it.
    """
    counts = members.sum(dim=1)
    # A product with weights, so that what stands at padding need not be zero.
    means = (members / counts.clamp(1)[:, None])[:, None] @ vectors
    return means[:, 0], counts.clamp(0, 1)
