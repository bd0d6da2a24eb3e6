"""Losses over a batch's similarities; each is defined by the formula in its docstring.

A batch of B matching pairs gives `scores` (B, B): photos down, recipes across, pair i on the
diagonal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from . import triplets


@dataclass(frozen=True, kw_only=True)
class Similarities:
    """What a loss may look at."""

    scores: Tensor
    """Photo against recipe (B, B)."""
    images: Tensor | None = None
    """Photo against photo (B, B); only where a global part is scored."""
    recipes: Tensor | None = None
    """Recipe against recipe (B, B); likewise."""
    classes: Tensor | None = None
    """Dish class of each pair (B,), int64; 0 is none."""
    generator: torch.Generator | None = None
    """For losses that draw pairs."""


@dataclass(frozen=True)
class LossValue:
    """A loss and how many of its terms were at work."""

    value: Tensor
    """Scalar, differentiable."""
    bad_pairs: float | None = None
    """Share of the terms that were 0 (AdaMine's `bad_pairs`, the diagonal not counted)."""


@dataclass(frozen=True, kw_only=True)
class Hinge:
    """Bidirectional hinge with the hardest negative of the batch (HF-ICMA; VSE++, eq. 6).

    L = sum_i max_{j≠i} [m + S_ij - S_ii]_+ + sum_j max_{i≠j} [m + S_ij - S_jj]_+
    """

    name: Literal["hinge"] = "hinge"
    weight: float = 1.0
    """Its share in the whole loss."""
    margin: float = 0.2
    """m."""

    def __call__(self, batch: Similarities) -> LossValue:
        """The loss of one batch."""
        found = [
            triplets.hardest(costs).costs
            for costs in (
                triplets.instance(batch.scores, self.margin),
                triplets.instance(batch.scores.T, self.margin),
            )
        ]
        costs = torch.cat(found)
        return LossValue(costs.sum(), _idle(costs))


@dataclass(frozen=True, kw_only=True)
class Triplets:
    """AdaMine's triplets and their relatives: L = 1/K · sum_s w_s · A(selected costs of s).

    With D = 1 - S the cost of (anchor, positive, negative) is [D_ap - D_an + m]_+ =
    [m + S_an - S_ap]_+. Strategies s, three letters for anchor, positive, negative:
    irr, rii (pairs of the batch), iri, rir (negatives of the anchor's own kind), and sirr, srii,
    siii, srrr, whose positive is another item of the anchor's dish class. A is the mean over all
    selected triplets or, adaptively, over the strictly positive ones (0 where there are none).
    """

    name: Literal["triplets"] = "triplets"
    weight: float = 1.0
    """Its share in the whole loss."""
    margin: float = 0.3
    """m."""
    strategies: Mapping[str, float] = field(default_factory=lambda: {"irr": 1.0, "rii": 1.0})
    """w_s by strategy."""
    negatives: Literal["all", "hardest", "semi_hard"] = "all"
    """`hardest` keeps one an anchor; `semi_hard` those with S_ap - m < S_an < S_ap (FaceNet)."""
    aggregation: Literal["mean", "valid"] = "valid"
    """`valid` is AdaMine's adaptive mean over active triplets; `mean` divides by all."""

    def __post_init__(self) -> None:
        unknown = set(self.strategies) - set(triplets.STRATEGIES)
        if unknown or not self.strategies:
            known = ", ".join(triplets.STRATEGIES)
            raise ValueError(f"strategies must be some of {known}, not {sorted(unknown)}")

    def __call__(self, batch: Similarities) -> LossValue:
        """The loss of one batch."""
        value = batch.scores.new_zeros(())
        idle: list[float] = []
        for name, weight in self.strategies.items():
            costs = triplets.strategy(
                name, batch.scores, batch.images, batch.recipes, batch.classes, self.margin
            )
            chosen = triplets.SELECTIONS[self.negatives](costs)
            value = value + weight * triplets.aggregate(chosen, self.aggregation)
            if chosen.kept.any():
                idle.append(_idle(chosen.costs[chosen.kept]))
        return LossValue(value / len(self.strategies), sum(idle) / len(idle) if idle else None)


@dataclass(frozen=True, kw_only=True)
class Lifted:
    """Lifted structure across the two kinds (Song et al. 2016, eq. 4).

    L = 1/(2B) · sum_i [D_ii + log(sum_{j≠i} exp(m - D_ij) + sum_{j≠i} exp(m - D_ji))]_+^2,
    D = 1 - S
    """

    name: Literal["lifted"] = "lifted"
    weight: float = 1.0
    """Its share in the whole loss."""
    margin: float = 0.3
    """m."""

    def __call__(self, batch: Similarities) -> LossValue:
        """The loss of one batch."""
        distances = 1 - batch.scores
        count = distances.shape[0]
        pairs = distances.diagonal()
        own = torch.eye(*distances.shape, dtype=torch.bool, device=distances.device)
        rows = (self.margin - distances).masked_fill(own, float("-inf"))
        both = torch.cat([rows, rows.T], dim=1)
        costs = (pairs + torch.logsumexp(both, dim=1)).clamp_min(0)
        return LossValue(costs.square().sum() / (2 * count), _idle(costs))


@dataclass(frozen=True, kw_only=True)
class Pairwise:
    """Matching pairs near, drawn mismatches far (PWC, Salvador et al. 2017; PWC++, AdaMine).

    L = mean_j  [d_j - p]_+ where the pair matches, [n - d_j]_+ where not; d = 1 - S of recipe j
    with its own photo or, with probability `mismatch`, another photo of the batch. PWC is the
    cosine embedding loss with margin 0.1: p = 0, n = 0.9. PWC++ has p = 0.3, n = 0.9.
    """

    name: Literal["pairwise"] = "pairwise"
    weight: float = 1.0
    """Its share in the whole loss."""
    positive_margin: float = 0.3
    """p."""
    negative_margin: float = 0.9
    """n."""
    mismatch: float = 0.8
    """Share of mismatched pairs; of the loss, never of the data, so evaluation sees them all."""

    def __call__(self, batch: Similarities) -> LossValue:
        """The loss of one batch."""
        count = batch.scores.shape[0]
        device = batch.scores.device
        own = torch.arange(count)
        drawn = torch.rand(count, generator=batch.generator) < self.mismatch
        shift = torch.randint(1, max(count, 2), (count,), generator=batch.generator)
        drawn &= torch.tensor(count > 1)
        photos = torch.where(drawn, (own + shift) % count, own).to(device)
        distances = 1 - batch.scores[photos, own.to(device)]
        costs = torch.where(
            drawn.to(device),
            (self.negative_margin - distances).clamp_min(0),
            (distances - self.positive_margin).clamp_min(0),
        )
        return LossValue(costs.mean(), _idle(costs))


@dataclass(frozen=True, kw_only=True)
class InfoNCE:
    """Bidirectional InfoNCE (van den Oord et al. 2018; CLIP).

    L = -1/2 · mean_i log softmax_j(S_ij / t)_i - 1/2 · mean_j log softmax_i(S_ij / t)_j
    """

    name: Literal["infonce"] = "infonce"
    weight: float = 1.0
    """Its share in the whole loss."""
    temperature: float = 0.07
    """t."""

    def __call__(self, batch: Similarities) -> LossValue:
        """The loss of one batch."""
        logits = batch.scores / self.temperature
        target = torch.arange(len(logits), device=logits.device)
        rows = F.cross_entropy(logits, target)
        columns = F.cross_entropy(logits.T, target)
        return LossValue((rows + columns) / 2)


Loss = Hinge | Triplets | Lifted | Pairwise | InfoNCE


def classification(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy over the pairs that have a dish class: mean_{c_i≠0} -log softmax(z_i)_{c_i}.

    Args:
        logits: (B, classes) of the shared head on one side's normalised global vectors.
        classes: (B,) int64; 0 (no class) does not count. 0 where the batch has no class at all.
    """
    labelled = classes != 0
    if not labelled.any():
        return logits.sum() * 0
    return F.cross_entropy(logits[labelled], classes[labelled])


def _idle(costs: Tensor) -> float:
    return float((costs.detach() <= 0).float().mean())
