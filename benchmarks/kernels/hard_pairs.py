"""Models and tokens that are made to be hard for scores in 16 bits, beside those of a trained run.

What makes rounding tell: sharp attention, whose shares change much with a logit's last bits; tokens
that are nearly equal, so that it has to choose between ties; tokens that are opposite, so that
means vanish and what is left of them is rounding; items of one token, where nothing averages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

if TYPE_CHECKING:
    from torch import Tensor

    from hficma.model.similarity import FoldedWeights

REGIONS, INGREDIENTS = 49, 20
"""Tokens of an item at most, as published."""
TokenKind: TypeAlias = Literal[
    "random", "positive", "alike", "near", "equal", "opposite", "alone", "single feature"
]
KINDS: tuple[TokenKind, ...] = get_args(TokenKind)
"""Of unit rows: independent; without negative entries; near one direction that all items share;
an item's equal but for a thousandth; equal; each beside its negative; one an item; each one
feature of the D."""
NEAR = 1e-3


class TokenItems(NamedTuple):
    """Items of one role before they are projected."""

    tokens: Tensor
    """(N, L, D) unit rows, zero where an item is shorter."""
    lengths: Tensor
    """(N,) int64."""


def made_models(
    *, widths: tuple[int, ...] = (128, 256), published: int | None = 1024
) -> Iterator[tuple[str, FoldedWeights]]:
    """Yield models that nobody trained, by name: new ones, and ones that are hard.

    Args:
        widths: D of most of them.
        published: a width of which there is one of either; None leaves them out.
    """
    for width in widths:
        for sharpness, match in ((1.0, 1.0), (1000.0, 8.0)):
            name = "" if sharpness == 1 else ", attention and matching sharpened"
            yield f"new, D = {width}{name}", _new_weights(width, sharpness, match)
        for sharpness in (1.0, 10.0, 100.0):
            name = f"random weights, D = {width}, logits x {sharpness:g}"
            yield name, _random_weights(width, sharpness)
    if published is not None:
        yield f"new, D = {published}", _new_weights(published, 1.0, 1.0)
        yield f"random weights, D = {published}, logits x 10", _random_weights(published, 10.0)


def made_tokens(kind: TokenKind, count: int, longest: int, width: int, random: Any) -> TokenItems:
    """Draw items of one kind of tokens.

    Args:
        kind: of `KINDS`.
        count: N.
        longest: L, tokens that an item has at most; lengths are drawn too.
        width: D.
        random: a generator of torch.
    """
    import torch

    from hficma.model.numerics import unit_rows

    lengths = torch.randint(1, longest + 1, (count,), generator=random)
    tokens = torch.randn(count, longest, width, generator=random)
    if kind == "positive":
        tokens = tokens.relu()
    elif kind == "alike":
        tokens = 0.3 * tokens + torch.randn(width, generator=random)
    elif kind == "near":
        tokens = NEAR * tokens + tokens[:, :1]
    elif kind == "equal":
        tokens = tokens[:, :1].expand_as(tokens).clone()
    elif kind == "opposite":
        lengths = (lengths // 2 * 2).clamp(min=2)
        tokens[:, 1::2] = -tokens[:, : longest // 2 * 2 : 2]
    elif kind == "alone":
        lengths = torch.ones_like(lengths)
    elif kind == "single feature":
        features = torch.randint(0, width, (count, longest, 1), generator=random)
        tokens = torch.zeros_like(tokens).scatter_(2, features, 1.0)
    valid = torch.arange(longest) < lengths[:, None]
    return TokenItems(unit_rows(tokens) * valid[..., None], lengths)


def _new_weights(width: int, sharpness: float, match: float) -> FoldedWeights:
    """Draw the weights of a model before its training.

    Args:
        width: D.
        sharpness: scales attention's logits.
        match: scales the matching MLP's hidden layer.
    """
    import torch

    from hficma.model.fusion import CrossFusion
    from hficma.model.similarity import FoldedItemWeights

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        weights = CrossFusion(width, heads=width // 32).double().fold().to(dtype=torch.float32)

    def sharpened(item: FoldedItemWeights) -> FoldedItemWeights:
        projection = item.projection.clone()
        projection[: 2 * width] *= sharpness**0.5
        return item._replace(projection=projection)

    return weights._replace(
        image=sharpened(weights.image),
        recipe=sharpened(weights.recipe),
        match_hidden=match * weights.match_hidden,
    )


def _random_weights(width: int, sharpness: float) -> FoldedWeights:
    """Draw weights whose attention logits are about as large as `sharpness`, of unit tokens.

    Their gates open and close fully, and S_local takes all values from 0 to 1.
    """
    import torch

    from hficma.model.similarity import FoldedItemWeights, FoldedWeights

    random = torch.Generator().manual_seed(0)
    heads = 8
    head = width // heads

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=random) * scale

    def item() -> FoldedItemWeights:
        # Of unit rows a head's logits are then about `sharpness`, half of it by query and by key.
        projection = normal(5 * width, width)
        projection[: 2 * width] *= sharpness**0.5
        return FoldedItemWeights(
            projection=projection,
            projection_bias=normal(5 * width, scale=0.1),
            gate_bias=normal(width),
            table=normal(heads, head, width, scale=width**-0.5),
            fuse_bias=normal(width, scale=0.1),
        )

    return FoldedWeights(
        image=item(),
        recipe=item(),
        match_hidden=normal(width, 2 * width),
        match_hidden_bias=normal(width, scale=0.1),
        match_output=normal(1, width, scale=4 * width**-0.5),
        match_output_bias=normal(1),
    )
