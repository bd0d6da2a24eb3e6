"""Layers of `transformers` that work sizes out at every run, rewritten for the one size of a graph.

Exported as they are, they would bring branches, and operators that not every runtime has. Each
function changes layers in place and leaves their weights, and the names of these, as they are. What
it replaces is the layer's class and not its `forward`: a copy of a network must read the copy's
weights, where a function set on the layer would go on reading the first one's.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError


def use_plain_pooling(head: Any) -> None:
    """Let SigLIP's attention pooling compute by plain products, with the weights that it has.

    torch's own `MultiheadAttention` is exported with operators that work sizes out at every run.

    Args:
        head: of the image tower, changed in place.
    """

    class PlainPooling(type(head)):  # type: ignore[misc]
        """The same layers and names of weights."""

        def forward(self, hidden_state: Tensor, attention_mask: None = None) -> Tensor:
            """Pool tokens (B, R, C) to (B, C); there is no padding among them."""
            attention = self.attention
            width, count = attention.embed_dim, attention.num_heads
            weights = attention.in_proj_weight.split(width)
            biases = attention.in_proj_bias.split(width)

            def heads(tokens: Tensor, part: int) -> Tensor:
                """Project tokens and part them by head: (B, H, R, C / H)."""
                projected = F.linear(tokens, weights[part], biases[part])
                parted = projected.reshape(tokens.shape[0], -1, count, width // count)
                return parted.transpose(1, 2)

            query, key, value = heads(self.probe, 0), heads(hidden_state, 1), heads(hidden_state, 2)
            logits = query @ key.mT / math.sqrt(width // count)
            read = (torch.softmax(logits, dim=-1) @ value).transpose(1, 2).flatten(2)
            pooled = attention.out_proj(read)
            result: Tensor = pooled + self.mlp(self.layernorm(pooled))
            return result[:, 0]

    head.__class__ = PlainPooling


def fix_rotary_positions(positions: Any, size: int) -> None:
    """Let DINOv3's rotary positions be constants, those of the one size that the encoder reads.

    Worked out from the pixels' shape they would be exported with a branch for every shape.

    Args:
        positions: the module that gives them, changed in place.
        size: pixels a side.
    """
    with torch.no_grad():
        cosines, sines = type(positions).forward(positions.eval(), torch.zeros(1, 3, size, size))
    # Not among the weights: names in runs stay those of the library.
    positions.register_buffer("cosines", cosines, persistent=False)
    positions.register_buffer("sines", sines, persistent=False)

    class FixedPositions(type(positions)):  # type: ignore[misc]
        """The same module; in training it stretches positions at random, as it always did."""

        def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
            """Return cosines and sines (R, D / H) of pixels (B, 3, s, s)."""
            if self.training:
                return cast(tuple[Tensor, Tensor], super().forward(pixel_values))
            kind = pixel_values.dtype
            return self.cosines.to(kind), self.sines.to(kind)

    positions.__class__ = FixedPositions


def fix_patch_grid(embeddings: Any, size: int) -> None:
    """Let SigLIP 2's NaFlex read squares of one size in place of patches of any shape of photo.

    It was trained on photos of every shape, cut into patches before they reach the network, and
    stretches its positions to each photo's grid. Graphs have one shape of input: that of a square
    photo, which NaFlex's own preprocessing cuts into the same patches.

        pixels (B, 3, s, s) ──▶ patches (B, R, p p 3), row by row, a patch's colours innermost

    Args:
        embeddings: of the image tower, changed in place.
        size: pixels a side, s.

    Raises:
        InputError: the size is no whole number of patches.
    """
    patch = int(embeddings.patch_size)
    if size % patch:
        raise InputError(
            f"model.image.input.size={size}: is no multiple of {patch}, a patch's side"
        )
    grid, trained = size // patch, int(embeddings.position_embedding_size)
    # Stretching is linear in the positions, so that those of unit vectors are its matrix (R, R').
    # On the CPU, for it looks at the numbers, which a network without any (`meta`) has not.
    unit = torch.eye(trained**2, device="cpu").reshape(trained, trained, trained**2)
    shape = torch.tensor([[grid, grid]], device="cpu")
    stretch = embeddings.resize_positional_embeddings(unit, shape, max_length=grid**2)[0]
    embeddings.register_buffer("stretch", stretch, persistent=False)

    class FixedGrid(type(embeddings)):  # type: ignore[misc]
        """The same layers and names of weights."""

        def forward(self, pixel_values: Tensor, spatial_shapes: None) -> Tensor:
            """Embed pixels (B, 3, s, s) as tokens (B, R, C)."""
            parted = pixel_values.reshape(-1, 3, grid, patch, grid, patch)
            patches = parted.permute(0, 2, 4, 3, 5, 1).reshape(-1, grid**2, patch * patch * 3)
            positions = self.position_embedding.weight
            if grid != trained:
                positions = self.stretch.to(positions.dtype) @ positions
            tokens: Tensor = self.patch_embedding(patches) + positions
            return tokens

    embeddings.__class__ = FixedGrid


def fix_position_buckets(encoder: Any, longest: int) -> None:
    """Work MPNet's buckets of distances out once, for texts up to a length.

    It takes logarithms of distances at every run, by operators that no other graph here has.

    Args:
        encoder: MPNet's, changed in place.
        longest: tokens.
    """

    class FixedBuckets(type(encoder)):  # type: ignore[misc]
        """The same encoder but for where its buckets come from."""

        def compute_position_bias(
            self, x: Tensor, position_ids: object = None, num_buckets: int = 32
        ) -> Tensor:
            """Return what attention adds by distance, (1, H, W, W)."""
            size = x.shape[1]
            bias: Tensor = self.relative_attention_bias(self.buckets[:size, :size])
            return bias.permute(2, 0, 1)[None]

    places = torch.arange(longest)
    buckets = encoder.relative_position_bucket(
        places[None] - places[:, None],
        num_buckets=encoder.config.relative_attention_num_buckets,
    )
    encoder.register_buffer("buckets", buckets, persistent=False)
    encoder.__class__ = FixedBuckets
