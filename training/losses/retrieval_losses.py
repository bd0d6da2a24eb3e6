"""The retrieval losses, each on a batch's tables of similarities and defined by its formula.

A batch of B matching pairs gives a table S (B, B) with its pairs on the diagonal:

                 recipe 0   recipe 1   recipe 2
    photo 0        S_00       S_01       S_02       row i: what photo i is compared with
    photo 1        S_10       S_11       S_12       column j: what recipe j is compared with
    photo 2        S_20       S_21       S_22       S_ii: pair i, every other entry a negative

S stands for whichever part of the score a loss is given: S, S_global or S_local.
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
    """What a loss may look at: the tables of one batch of B pairs."""

    scores: Tensor
    """Photo (down) against recipe (across), (B, B)."""
    images: Tensor | None = None
    """Photo against photo, (B, B); only of the global part, which scores items of one kind."""
    recipes: Tensor | None = None
    """Recipe against recipe, (B, B); likewise."""
    classes: Tensor | None = None
    """Dish class of each pair, (B,) int64; 0 is none."""
    generator: torch.Generator | None = None
    """On the CPU; for losses that draw pairs."""


@dataclass(frozen=True)
class LossValue:
    """A loss, and how many of its terms were at work."""

    value: Tensor
    """Scalar, differentiable."""
    bad_pairs: Tensor | None = None
    """Share of the terms that were 0 and so taught nothing, a scalar (AdaMine's name for it; the
    diagonal is not counted). None for losses whose terms are never 0."""


@dataclass(frozen=True, kw_only=True)
class Hinge:
    """Bidirectional hinge on the hardest negatives of the batch, as HF-ICMA trains with.

    L = sum_i max_{j≠i} [m + S_ij - S_ii]_+  +  sum_j max_{i≠j} [m + S_ij - S_jj]_+

    Source: VSE++ (Faghri et al., BMVC 2018), equation 6; HF-ICMA (Li et al., SIGIR 2021).
    """

    name: Literal["hinge"] = "hinge"
    weight: float = 1.0
    """Its share in the whole loss."""
    margin: float = 0.2
    """m."""

    def __call__(self, batch: Similarities) -> LossValue:
        """Return the loss of one batch."""
        by_photo = triplets.hardest(triplets.instance(batch.scores, self.margin)).costs  # (B, 1)
        by_recipe = triplets.hardest(triplets.instance(batch.scores.T, self.margin)).costs
        costs = torch.cat([by_photo, by_recipe])
        return LossValue(costs.sum(), _share_of_zeros(costs))


@dataclass(frozen=True, kw_only=True)
class Triplets:
    """AdaMine's triplets and their relatives: L = 1/K · sum_s w_s · A(costs of strategy s).

    With the distance D = 1 - S the cost of (anchor a, positive p, negative n) is
    [D_ap - D_an + m]_+ = [m + S_an - S_ap]_+. A strategy s is named by the kinds of anchor,
    positive and negative (i: photo, r: recipe), with an s in front where the positive is not the
    anchor's own partner but another item of its dish class:

        irr, rii                 pairs of the batch; negatives of the other kind
        iri, rir                 pairs of the batch; negatives of the anchor's own kind
        sirr, srii, siii, srrr   positives by dish class

    K is the number of strategies. A is the mean over all selected triplets or, adaptively, over
    those with a cost above 0 (and 0 where there are none).

    Why adaptive: late in training nearly every triplet costs 0. Divided by all of them, the
    gradient of the few that still teach something vanishes; divided by their own number, it keeps
    its size, which works like a curriculum that moves to the hard ones.

    Source: AdaMine (Carvalho et al., SIGIR 2018, pp. 35-44), section 3: the retrieval loss, the
    semantic loss and the adaptive learning schema.
    """

    name: Literal["triplets"] = "triplets"
    weight: float = 1.0
    """Its share in the whole loss."""
    margin: float = 0.3
    """m."""
    strategies: Mapping[str, float] = field(default_factory=lambda: {"irr": 1.0, "rii": 1.0})
    """w_s by strategy."""
    negatives: Literal["all", "hardest", "semi_hard"] = "all"
    """`hardest`: one an anchor; `semi_hard`: those with S_ap - m < S_an < S_ap (FaceNet)."""
    aggregation: Literal["mean", "valid"] = "valid"
    """`valid` is AdaMine's adaptive mean over active triplets; `mean` divides by all."""

    def __post_init__(self) -> None:
        unknown = set(self.strategies) - set(triplets.STRATEGIES)
        if unknown or not self.strategies:
            known = ", ".join(triplets.STRATEGIES)
            raise ValueError(f"strategies must be some of {known}, not {sorted(unknown)}")

    def __call__(self, batch: Similarities) -> LossValue:
        """Return the loss of one batch.

        Raises:
            ValueError: a strategy needs a table or classes that the batch does not hold.
        """
        value = batch.scores.new_zeros(())
        zeros: list[Tensor] = []
        for name, weight in self.strategies.items():
            costs = triplets.strategy(
                name, batch.scores, batch.images, batch.recipes, batch.classes, self.margin
            )
            costs = triplets.SELECTIONS[self.negatives](costs)
            value = value + weight * triplets.aggregate(costs, self.aggregation)
            if costs.valid.any():  # no anchor of a class with a partner: nothing to take a share of
                zeros.append(_share_of_zeros(costs.costs[costs.valid]))
        share = torch.stack(zeros).mean() if zeros else None
        return LossValue(value / len(self.strategies), share)


@dataclass(frozen=True, kw_only=True)
class Lifted:
    """Lifted structure across the two kinds: each pair against all negatives of both its items.

    L = 1/(2B) · sum_i [D_ii + log(sum_{j≠i} exp(m - D_ij) + sum_{j≠i} exp(m - D_ji))]_+^2,
    D = 1 - S

    Source: Song et al., CVPR 2016, equation 4 (the smooth bound of its maximum over negatives).
    """

    name: Literal["lifted"] = "lifted"
    weight: float = 1.0
    """Its share in the whole loss."""
    margin: float = 0.3
    """m."""

    def __call__(self, batch: Similarities) -> LossValue:
        """Return the loss of one batch."""
        distances = 1 - batch.scores
        count = len(distances)
        diagonal = torch.eye(count, dtype=torch.bool, device=distances.device)
        # exp(-inf) = 0 takes the pair itself out of both sums.
        terms = (self.margin - distances).masked_fill(diagonal, float("-inf"))
        # Row i of `both` (B, 2B): the negatives of photo i, then those of recipe i.
        both = torch.cat([terms, terms.T], dim=1)
        costs = (distances.diagonal() + torch.logsumexp(both, dim=1)).clamp_min(0)
        return LossValue(costs.square().sum() / (2 * count), _share_of_zeros(costs))


@dataclass(frozen=True, kw_only=True)
class Pairwise:
    """Matching pairs near and random mismatches far, each pair for itself (PWC, PWC++).

    L = mean_j  [d_j - p]_+ where the pair matches, [n - d_j]_+ where not

    with d_j = 1 - S of recipe j and its own photo or, with probability `mismatch`, another photo
    of the batch. PWC is the cosine embedding loss with margin 0.1: p = 0, n = 0.9. PWC++ leaves
    matching pairs alone once they are near enough: p = 0.3, n = 0.9.

    Source: PWC is Salvador et al., CVPR 2017; PWC++ is the baseline of AdaMine.
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
        """Return the loss of one batch."""
        count = batch.scores.shape[0]
        device = batch.scores.device
        recipes = torch.arange(count)
        mismatched = torch.rand(count, generator=batch.generator) < self.mismatch
        # A shift by 1 to B - 1 places, around the end, never comes out at the recipe's own photo.
        shift = torch.randint(1, max(count, 2), (count,), generator=batch.generator)
        mismatched &= torch.tensor(count > 1)
        photos = torch.where(mismatched, (recipes + shift) % count, recipes).to(device)
        distances = 1 - batch.scores[photos, recipes.to(device)]  # (B,)
        costs = torch.where(
            mismatched.to(device),
            (self.negative_margin - distances).clamp_min(0),
            (distances - self.positive_margin).clamp_min(0),
        )
        return LossValue(costs.mean(), _share_of_zeros(costs))


@dataclass(frozen=True, kw_only=True)
class InfoNCE:
    """Bidirectional InfoNCE: the pair is to be told from the batch's negatives by a softmax.

    L = -1/2 · mean_i log softmax_j(S_ij / t)_i - 1/2 · mean_j log softmax_i(S_ij / t)_j

    Source: van den Oord et al. 2018, equation 4; both ways as in CLIP (Radford et al. 2021).
    """

    name: Literal["infonce"] = "infonce"
    weight: float = 1.0
    """Its share in the whole loss."""
    temperature: float = 0.07
    """t."""

    def __call__(self, batch: Similarities) -> LossValue:
        """Return the loss of one batch."""
        logits = batch.scores / self.temperature
        partners = torch.arange(len(logits), device=logits.device)
        rows = F.cross_entropy(logits, partners)
        columns = F.cross_entropy(logits.T, partners)
        return LossValue((rows + columns) / 2)


Loss = Hinge | Triplets | Lifted | Pairwise | InfoNCE
"""Any of them: what an option such as `loss.on_global` takes, by its `name`."""


def classification(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the cross-entropy over items with a dish class: mean_{c_i≠0} -log softmax(z_i)_{c_i}.

    Args:
        logits: z (B, C), of the head shared by both kinds on normalised global vectors of one
            kind; C dish classes, "none" (0) among them.
        classes: c (B,) int64; items of class 0 do not count.

    Returns:
        a scalar; 0 where no item of the batch has a class.
    """
    labelled = classes != 0
    if not labelled.any():
        return logits.sum() * 0  # 0 with a gradient: the step goes the same way as any other
    return F.cross_entropy(logits[labelled], classes[labelled])


def _share_of_zeros(costs: Tensor) -> Tensor:
    """Return the share of costs, in any shape, that are 0, as a scalar."""
    return (costs.detach() <= 0).float().mean()
