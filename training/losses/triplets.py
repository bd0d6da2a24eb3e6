"""Triplet costs, which negatives are kept, and how what is left becomes one number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

STRATEGIES = ("irr", "rii", "iri", "rir", "sirr", "srii", "siii", "srrr")


@dataclass(frozen=True)
class Costs:
    """Hinged triplet costs, one anchor a row."""

    costs: Tensor
    """[m + S_an - S_ap]_+ (A, N); meaningless where `kept` is false."""
    kept: Tensor
    """Which entries are triplets at all (A, N), bool."""
    gaps: Tensor
    """S_an - S_ap (A, N), not hinged."""
    margin: float
    """m."""


def instance(scores: Tensor, margin: float, positives: Tensor | None = None) -> Costs:
    """Costs of pair triplets: anchor i down, negatives j ≠ i across.

    Args:
        scores: similarity of anchors and negatives (B, B); entry (i, i) is never a negative.
        margin: m.
        positives: S_ap of each anchor (B,); the scores' diagonal where None.
    """
    if positives is None:
        positives = scores.diagonal()
    gaps = scores - positives[:, None]
    own = torch.eye(*scores.shape, dtype=torch.bool, device=scores.device)
    return Costs((gaps + margin).clamp_min(0), ~own, gaps, margin)


def semantic(scores: Tensor, classes: Tensor, margin: float) -> Costs:
    """Costs of class triplets (AdaMine's s-strategies).

    An anchor is an item with a class (not 0) that another item of the batch shares. Its positive
    is the first such item in batch order; its negatives are the first n items of other classes,
    n the smallest number any anchor has, so that each anchor weighs the same.

    Args:
        scores: similarity of anchors and candidates (B, B).
        classes: (B,) int64, 0 = none.
        margin: m.
    """
    labelled = (classes != 0).nonzero().flatten()
    scores, classes = scores[labelled][:, labelled], classes[labelled]
    same = classes[:, None] == classes[None, :]
    others = same & ~torch.eye(len(classes), dtype=torch.bool, device=scores.device)
    anchors = others.any(dim=1) & ~same.all(dim=1)
    scores, same, others = scores[anchors], same[anchors], others[anchors]
    if not len(scores):
        empty = scores.new_zeros((0, 1))
        return Costs(empty, empty.bool(), empty, margin)
    positives = scores.gather(1, others.int().argmax(dim=1, keepdim=True)).squeeze(1)
    different = ~same
    order = different.cumsum(dim=1)
    kept = different & (order <= order[:, -1].min())
    gaps = scores - positives[:, None]
    return Costs((gaps + margin).clamp_min(0), kept, gaps, margin)


def strategy(
    name: str,
    scores: Tensor,
    images: Tensor | None,
    recipes: Tensor | None,
    classes: Tensor | None,
    margin: float,
) -> Costs:
    """Costs of the strategy of that name (letters: anchor, positive, negative; s: by class).

    Args:
        name: one of `STRATEGIES`.
        scores: photo against recipe (B, B).
        images: photo against photo (B, B), for iri and siii.
        recipes: recipe against recipe (B, B), for rir and srrr.
        classes: (B,), for the s-strategies.
        margin: m.

    Raises:
        ValueError: what the strategy needs is not there.
    """
    own_kind = {"iri": images, "siii": images, "rir": recipes, "srrr": recipes}
    if name in own_kind and own_kind[name] is None:
        raise ValueError(f"{name} compares items of one kind: use it on the global part")
    if name.startswith("s") and classes is None:
        raise ValueError(f"{name} needs the dishes' classes")
    match name:
        case "irr":
            return instance(scores, margin)
        case "rii":
            return instance(scores.T, margin)
        case "iri" | "rir":
            same = own_kind[name]
            assert same is not None
            return instance(same, margin, positives=scores.diagonal())
    assert classes is not None
    table = {"sirr": scores, "srii": scores.T}.get(name, own_kind.get(name))
    assert table is not None
    return semantic(table, classes, margin)


def every(costs: Costs) -> Costs:
    """All negatives."""
    return costs


def hardest(costs: Costs) -> Costs:
    """The negative of the largest cost for each anchor (VSE++)."""
    hidden = costs.gaps.masked_fill(~costs.kept, float("-inf"))
    best = hidden.argmax(dim=1, keepdim=True)
    return Costs(
        costs.costs.gather(1, best) * costs.kept.gather(1, best),
        costs.kept.gather(1, best),
        costs.gaps.gather(1, best),
        costs.margin,
    )


def semi_hard(costs: Costs) -> Costs:
    """Negatives further than the positive, yet within the margin: -m < S_an - S_ap < 0.

    FaceNet (Schroff et al. 2015), section 3.2.
    """
    within = (costs.gaps < 0) & (costs.gaps > -costs.margin)
    return Costs(costs.costs, costs.kept & within, costs.gaps, costs.margin)


SELECTIONS: dict[str, Callable[[Costs], Costs]] = {
    "all": every,
    "hardest": hardest,
    "semi_hard": semi_hard,
}


def aggregate(costs: Costs, how: Literal["mean", "valid"]) -> Tensor:
    """One number: sum of kept costs over their number, or over that of the positive ones.

    0 where there is nothing to divide by (the published adaptive mean is 0/0 there).
    """
    kept = costs.costs * costs.kept
    number = costs.kept.sum() if how == "mean" else (kept > 0).sum()
    return kept.sum() / number.clamp_min(1)
