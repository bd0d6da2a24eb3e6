"""Triplet costs: which negatives count for each anchor, and how their costs become one number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

STRATEGIES = ("irr", "rii", "iri", "rir", "sirr", "srii", "siii", "srrr")
"""Kinds of anchor, positive and negative (i: photo, r: recipe); s: the positive by dish class."""
ONE_KIND = ("iri", "rir", "siii", "srrr")
"""Strategies that compare photos with photos, or recipes with recipes: S_global alone does that."""


@dataclass(frozen=True)
class Costs:
    """Hinged costs of triplets: an anchor a row, a negative a column."""

    costs: Tensor
    """[m + S_an - S_ap]_+ (A, N); meaningless where `valid` is false."""
    valid: Tensor
    """Which entries are triplets that count (A, N), bool."""
    gaps: Tensor
    """S_an - S_ap (A, N), without margin and hinge."""
    margin: float
    """m."""


def instance(scores: Tensor, margin: float, positives: Tensor | None = None) -> Costs:
    """Return the costs of pair triplets: each item against all but its own partner.

    Args:
        scores: similarity of anchors (down) and negatives (across), (B, B); entry (i, i) is never
            a negative.
        margin: m.
        positives: S_ap of each anchor (B,); the diagonal of `scores` where None.
    """
    if positives is None:
        positives = scores.diagonal()
    gaps = scores - positives[:, None]
    diagonal = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    return Costs((gaps + margin).clamp_min(0), ~diagonal, gaps, margin)


def semantic(scores: Tensor, classes: Tensor, margin: float) -> Costs:
    """Return the costs of class triplets (AdaMine's s-strategies).

    An anchor is an item with a dish class that another item of the batch shares and yet another
    does not. Its positive is the first item of its class in batch order, but itself; its negatives
    are the first n items of other classes.

    Args:
        scores: similarity of anchors and candidates (B, B).
        classes: (B,) int64; items of class 0 (none) take no part.
        margin: m.

    Returns:
        costs (A, N) of the A anchors and the N items with a class; (0, 1) without an anchor.
    """
    labelled = (classes != 0).nonzero().flatten()
    scores, classes = scores[labelled][:, labelled], classes[labelled]
    same = classes[:, None] == classes[None, :]
    partners = same & ~torch.eye(len(classes), dtype=torch.bool, device=scores.device)
    anchors = partners.any(dim=1) & ~same.all(dim=1)
    scores, same, partners = scores[anchors], same[anchors], partners[anchors]
    if not len(scores):
        empty = scores.new_zeros((0, 1))
        return Costs(empty, empty.bool(), empty, margin)
    # argmax of a row of 0s and 1s is the place of its first 1.
    positives = scores.gather(1, partners.int().argmax(dim=1, keepdim=True)).squeeze(1)
    # Anchors of a frequent class have fewer negatives. All take as many as the one with the
    # fewest, so that each anchor weighs the same in the mean:
    #
    #   different  1 0 1 1      order  1 1 2 3     n = 2     valid  1 0 1 0
    #              0 1 0 1             0 1 1 2                      0 1 0 1
    different = ~same
    order = different.cumsum(dim=1)
    valid = different & (order <= order[:, -1].min())
    gaps = scores - positives[:, None]
    return Costs((gaps + margin).clamp_min(0), valid, gaps, margin)


def strategy(
    name: str,
    scores: Tensor,
    images: Tensor | None,
    recipes: Tensor | None,
    classes: Tensor | None,
    margin: float,
) -> Costs:
    """Return the costs of the strategy of that name.

    Args:
        name: one of `STRATEGIES`.
        scores: photo against recipe (B, B).
        images: photo against photo (B, B), for iri and siii.
        recipes: recipe against recipe (B, B), for rir and srrr.
        classes: dish classes (B,), for the s-strategies.
        margin: m.

    Raises:
        ValueError: what the strategy needs is not there.
    """
    # The table in which the strategy's anchors stand down and its negatives across.
    tables = {
        "irr": scores, "sirr": scores, "rii": scores.T, "srii": scores.T,
        "iri": images, "siii": images, "rir": recipes, "srrr": recipes,
    }  # fmt: skip
    table = tables[name]
    if table is None:
        raise ValueError(f"{name} compares items of one kind: use it on the global part")
    if not name.startswith("s"):
        # The positive is always the partner, of the other kind.
        return instance(table, margin, positives=scores.diagonal())
    if classes is None:
        raise ValueError(f"{name} needs the dishes' classes")
    return semantic(table, classes, margin)


def every(costs: Costs) -> Costs:
    """Return all negatives."""
    return costs


def hardest(costs: Costs) -> Costs:
    """Return the negative of the largest cost for each anchor, (A, 1).

    Source: VSE++ (Faghri et al. 2018), equation 6.
    """
    # By the gap, which tells negatives apart where several costs are hinged to 0.
    gaps = costs.gaps.masked_fill(~costs.valid, float("-inf"))
    index = gaps.argmax(dim=1, keepdim=True)
    valid = costs.valid.gather(1, index)
    return Costs(
        costs.costs.gather(1, index) * valid, valid, costs.gaps.gather(1, index), costs.margin
    )


def semi_hard(costs: Costs) -> Costs:
    """Return the negatives further than the positive, yet within the margin: -m < S_an - S_ap < 0.

    Harder ones are often mislabelled or unlucky, and can make all embeddings collapse into one
    point early on; easier ones cost nothing.

    Source: FaceNet (Schroff et al., CVPR 2015), section 3.2, equation 4.
    """
    within = (costs.gaps < 0) & (costs.gaps > -costs.margin)
    return replace(costs, valid=costs.valid & within)


SELECTIONS: dict[str, Callable[[Costs], Costs]] = {
    "all": every,
    "hardest": hardest,
    "semi_hard": semi_hard,
}
"""Which negatives count, by the value of the option `negatives`."""


def aggregate(costs: Costs, how: Literal["mean", "valid"]) -> Tensor:
    """Return the sum of valid costs over their number, or over that of the positive ones.

    Args:
        costs: (A, N).
        how: `mean` divides by all valid entries, `valid` (adaptive) by those with a cost above 0.

    Returns:
        a scalar; 0 where there is nothing to divide by (the published adaptive mean is 0/0 there).
    """
    total = costs.costs * costs.valid
    number = costs.valid.sum() if how == "mean" else (total > 0).sum()
    return total.sum() / number.clamp_min(1)
