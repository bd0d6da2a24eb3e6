"""Forms of tokens that no index stores, tried for `hficma bench storage`: low rank, and pooled.

Both may be combined with any precision. They are judged as generously as possible, for it is asked
whether they would pay: the basis of low rank is that of the very recipes that are searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from hficma.engine.index.item_encoding import (
    EncodingPrecision,
    bytes_per_token,
    dequantise,
    quantise,
)
from hficma.types import Floats, Lengths

RANKS = (("D / 8", 8), ("D / 4", 4), ("D / 2", 2))
"""How a rank is called, and what D is divided by."""
SHARES = (("three quarters", 3 / 4), ("half", 1 / 2), ("a third", 1 / 3))
"""How many of a recipe's tokens are left, rounded up."""


class TokenForm(NamedTuple):
    """Tokens of N recipes as they come back from a form in which they were stored."""

    name: str
    tokens: Floats
    """(N, T, D), padded."""
    lengths: Lengths
    """(N,) tokens that are not padding."""
    bytes: Mapping[int, float]
    """Width to bytes of a recipe of as many tokens as asked for."""


def token_forms(
    tokens: Floats, lengths: Lengths, widths: tuple[int, ...], each: int
) -> Iterator[TokenForm]:
    """Yield recipes' tokens in every form.

    Args:
        tokens: (N, T, D) of N recipes, padded; of unit length, none negative.
        lengths: (N,).
        widths: D for which bytes are told.
        each: tokens of the recipe for which they are.
    """
    valid = np.arange(tokens.shape[1]) < lengths[:, None]  # (N, T)
    rows = tokens[valid]  # (sum(L), D)
    mean = rows.mean(axis=0)
    _, _, basis = np.linalg.svd(rows - mean, full_matrices=False)  # (D, D)
    for name, divisor in RANKS:
        rank = tokens.shape[2] // divisor
        stored, scales, _ = quantise((rows - mean) @ basis[:rank].T, "int8")
        near = (dequantise(stored, scales) @ basis[:rank] + mean).clip(min=0)
        restored = np.zeros_like(tokens)
        restored[valid] = _unit(near)
        sizes: dict[int, float] = {
            d: each * bytes_per_token("tokens", "int8", d // divisor, 1) for d in widths
        }
        yield TokenForm(f"rank {name}, int8", restored, lengths, sizes)
    for name, share in SHARES:
        pooled, fewer = _pooled(tokens, lengths, share)
        count = float(each * fewer.sum() / lengths.sum())
        precisions: tuple[EncodingPrecision, ...] = ("int8", "int4")
        for precision in precisions:
            stored, scales, _ = quantise(pooled.reshape(-1, pooled.shape[-1]), precision)
            restored = dequantise(stored, scales).reshape(pooled.shape)
            sizes = {d: count * bytes_per_token("tokens", precision, d, 1) for d in widths}
            yield TokenForm(f"pooled to {name}, {precision}", restored, fewer, sizes)


def _pooled(tokens: Floats, lengths: Lengths, share: float) -> tuple[Floats, Lengths]:
    """Merge each recipe's tokens that are most alike into their means, until a share is left."""
    pooled, fewer = np.zeros_like(tokens), np.ceil(share * lengths).astype(np.int64)
    for item, (length, left) in enumerate(zip(lengths, fewer, strict=True)):
        means, counts = tokens[item, :length], np.ones(length)
        while len(means) > left:
            # Ward's criterion: what merging adds to the squared distances from the means.
            unit = _unit(means)
            costs = (1 - unit @ unit.T) / (1 / counts[:, None] + 1 / counts)
            np.fill_diagonal(costs, np.inf)
            first, second = np.unravel_index(costs.argmin(), costs.shape)
            merged = np.average(means[[first, second]], axis=0, weights=counts[[first, second]])
            keep = np.delete(np.arange(len(means)), [first, second])
            means = np.vstack([means[keep], merged])
            counts = np.append(counts[keep], counts[first] + counts[second])
        pooled[item, :left] = _unit(means)
    return pooled, fewer


def _unit(rows: Floats) -> Floats:
    """Return rows at length 1; one of zeros stays."""
    norms: Any = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: Floats = (rows / np.where(norms > 0, norms, 1)).astype(np.float32)
    return unit
