"""How sure an answer is: how likely its first ranks are right, and how likely nothing here is.

A search scores a query with items and ranks them; a score alone does not say whether the first rank
is right. Three numbers do, each by Bayes' rule from the scores and the number of items.

*Derivation.* A pool holds N items with scores s_1 .. s_N. Before looking, the query's item is in
the pool with chance π, each place alike, and absent with chance 1 - π. Scores of pairs that belong
together have a density f_1, of all others f_0, and everything needed is their ratio λ(s) = f_1(s) /
f_0(s). If item i is the right one, the N scores have density f_1(s_i) Π_{j≠i} f_0(s_j), and if none
is, Π_j f_0(s_j). Divided by the latter, the hypotheses weigh

    item i is right    π λ(s_i) / N             Λ := Σ_j λ(s_j)
    none is            1 - π

so that

    P(i is right | it is in the pool) = λ(s_i) / Λ
    P(none is)                        = (1 - π) / (1 - π + π Λ / N)

A further item adds its λ to Λ: the larger the pool, the less sure its first rank. That is how the
pool's size comes in, and why nothing is fitted for any one size.

*The ratio.* Two normal densities of equal spread give a log ratio that is linear in s: log λ(s) =
a s + b, which pairs of photos and recipes obey. Then P(i is right | in the pool) is the softmax of
the scores at temperature 1 / a, whatever b is.

*Items that were not scored.* A search scores only the K best candidates. Of the other N - K no
score is known, but f_0 is: nearly all items are wrong ones, with normal scores of a known spread σ.
Their mean is read off the answer itself: the lowest scores that were computed stand at a known rank
among N. With t where the K best end and z = (t - μ) / σ, each of the others adds

    E[λ(s) | s < t] = exp(a μ + b + a² σ² / 2) Φ(z - a σ) / Φ(z)

*What is left.* Items are not drawn one by one: a pool with one lasagne has five, and the more, the
larger it is. So the two chances of ranks are stretched, logit P' = c logit P + d - f log N, by
numbers fitted to what became of pairs that no model had learnt from; 0 and 1 stay, so that one item
alone is certainly the first of those that there are. And some queries score high with everything,
which looks like presence. Their level wanders by some τ² in log Λ / N, however many items there
are, while chance alone moves that by about V / N, with V the variance of λ(s) among wrong items. So
the evidence counts by the share of chance in both, N₀ / (N₀ + N) with N₀ = V / τ²: of many items
it says little, and the chance of absence stays near where it was before.

a, b, σ, N₀ and the stretches are fitted by `hficma.training.sureness.fitting`.

*Words.* Both count absence in, so that neither is said because of the best of many wrong items:

    sure       P(first right) P(in the pool) is at least `ScoreCalibration.sure`, from which on, of
               pairs whose item was in the pool, four in five had it first; where it was taken out,
               one answer in twenty was called so at most, whatever the pool's size
    perhaps    P(first ten hold it) P(in the pool) is at least a quarter: at even odds of being in
               the pool, the first ten hold it as likely as not if it is
    a guess    else

NumPy and the standard library only; `reference_sureness` is the derivation, summed term by term.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal, TypeAlias

import numpy as np

from .types import AnyFloats

SURENESS_FILE = "sureness.json"
"""Its name in every directory that has one: runs and bundles."""
TEN = 10
"""Ranks of `Sureness.first_ten`."""
PRIOR = 0.5
"""π: chance that a query's item is in the pool, before looking at the scores."""
PERHAPS = PRIOR / 2
"""Least P(right one in the first ten), absence counted in, of an answer called perhaps right."""

Word: TypeAlias = Literal["sure", "perhaps", "a guess"]
"""How sure an answer is, in words."""

_NORMAL = NormalDist()
_LOWEST = 0.1
"""Share of the scores, the lowest, by whose mean and rank the scores of all others are placed.
Candidates are chosen by S_global: where S has a local part, a single lowest S would stand too low,
and many would tell of the best instead."""
FORMAT = 1
"""Of the file."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Maps a probability to another: logit P' = c logit P + d - f log N; 0 and 1 stay."""

    slope: float = 1.0
    """c > 0, so that what was more likely stays so."""
    shift: float = 0.0
    """d."""
    crowding: float = 0.0
    """f >= 0: what alike items, of which large pools have more, take from the odds."""

    def __call__(self, probability: float, pool: int) -> float:
        """Return P'.

        Args:
            probability: P.
            pool: N, items that could have answered.
        """
        if not 0.0 < probability < 1.0:
            return probability
        odds = math.log(probability / (1.0 - probability))
        return _logistic(self.slope * odds + self.shift - self.crowding * math.log(pool))


@dataclass(frozen=True, kw_only=True)
class ScoreCalibration:
    """What scores of one model mean, for queries of one role."""

    slope: float
    """a > 0: log λ(s) = a s + b."""
    offset: float
    """b."""
    spread: float
    """σ > 0: standard deviation of scores of pairs that do not belong together."""
    crowd: float
    """N₀ > 0: items of a pool in which the evidence of presence counts half."""
    first: Stretch = Stretch()
    """Of the chance that the first rank is right."""
    first_ten: Stretch = Stretch()
    """Of the chance that the first ten ranks hold the right item."""
    sure: float = 1.0
    """Least P(first rank right), absence counted in, of an answer that is called sure; of 1 no
    answer of several items is."""


@dataclass(frozen=True, kw_only=True)
class SurenessFacts:
    """The calibration of one model, as `sureness.json` holds it."""

    image: ScoreCalibration
    """Of photos that look for recipes."""
    recipe: ScoreCalibration
    """Of recipes that look for photos."""
    pairs: int
    """Pairs that it was fitted on, each scored by a model that had not learnt from it."""
    folds: int
    """Models that scored them."""

    def of(self, role: Literal["image", "recipe"]) -> ScoreCalibration:
        """Return the calibration of queries of a role."""
        return self.image if role == "image" else self.recipe

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        return {"format": FORMAT, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Sureness:
    """How sure an answer is."""

    first: float
    """Chance that the first rank is right, given that the right item is in the pool."""
    first_ten: float
    """Chance that the right item is among the first ten, given that it is in the pool."""
    absent: float
    """Chance that the right item is not in the pool, where it was as likely there as not before
    looking; `absent_at` gives it from another start."""
    word: Word
    """`sure`, `perhaps` or `a guess`."""

    @property
    def text(self) -> str:
        """Say it in one line."""
        first, first_ten, absent = (
            f"{100 * chance:.0f} %" for chance in (self.first, self.first_ten, self.absent)
        )
        # One line of a terminal's 80 columns.
        return (
            f"{self.word}: {first} first, {first_ten} in the first ten, if it is here; "
            f"{absent} not here"
        )

    def absent_at(self, prior: float) -> float:
        """Return the chance that the right item is absent, from another start.

        Args:
            prior: π, how likely it was in the pool before looking at the scores, in [0, 1].
        """
        # `absent` is of even odds, so that (1 - absent) and absent weigh Λ / N and 1.
        present, absent = prior * (1.0 - self.absent), (1.0 - prior) * self.absent
        total = present + absent
        return absent / total if total else 1.0 - prior

    def to_json(self) -> dict[str, Any]:
        """Return the chances and the word as JSON values."""
        return {
            "first": round(self.first, 4),
            "first_ten": round(self.first_ten, 4),
            "absent": round(self.absent, 4),
            "word": self.word,
        }


def sureness(scores: AnyFloats, pool: int, calibration: ScoreCalibration) -> Sureness:
    """Return how sure the answer is that ranks a pool's items by their scores.

    Args:
        scores: (K,) S of the items that were scored, in any order; the others score less.
        pool: N >= K >= 1, items that could have answered.
        calibration: of the model, for queries of this role.
    """
    assert 1 <= len(scores) <= pool
    falling = -np.sort(-scores.astype(np.float64))
    # Logarithms: with a = 10 and cosines λ spans five orders of magnitude, and AdaMine's may more.
    ratios = calibration.slope * falling + calibration.offset  # log λ, best first
    everything = np.logaddexp(_log_sum(ratios), _log_remainder(falling, pool, calibration))
    first = _share(_log_sum(ratios[:1]), everything)
    # The sum of few terms may exceed that of all by its rounding.
    first_ten = 1.0 if pool <= TEN else _share(_log_sum(ratios[:TEN]), everything)
    return _judged(first, first_ten, float(everything) - math.log(pool), pool, calibration)


def reference_sureness(scores: Sequence[float], calibration: ScoreCalibration) -> Sureness:
    """Return `sureness` where every item was scored, as the derivation has it.

    Args:
        scores: S of all N items, N >= 1.
        calibration: of the model.
    """
    weights = [
        PRIOR / len(scores) * math.exp(calibration.slope * score + calibration.offset)
        for score in sorted(scores, reverse=True)
    ]
    present = sum(weights)
    return _judged(
        weights[0] / present, min(1.0, sum(weights[:TEN]) / present),
        math.log(present / (1.0 - PRIOR)), len(scores), calibration,
    )  # fmt: skip


def _judged(
    first: float, first_ten: float, evidence: float, pool: int, calibration: ScoreCalibration
) -> Sureness:
    """Return the answer's sureness, chances stretched and the word chosen.

    Args:
        first: P(the first is right | in the pool).
        first_ten: P(one of the first ten is right | in the pool).
        evidence: log Λ / N: how much likelier the scores are with the right item than without.
        pool: N.
        calibration: of the model.
    """
    absent = _logistic(-evidence * calibration.crowd / (calibration.crowd + pool))  # π = 1/2
    first = calibration.first(first, pool)
    # Each is fitted by itself; ten ranks hold no less than one of them.
    first_ten = max(first, calibration.first_ten(first_ten, pool))
    word: Word = "a guess"
    if first * (1.0 - absent) >= calibration.sure:
        word = "sure"
    elif first_ten * (1.0 - absent) >= PERHAPS:
        word = "perhaps"
    return Sureness(first=first, first_ten=first_ten, absent=absent, word=word)


def _log_remainder(falling: AnyFloats, pool: int, calibration: ScoreCalibration) -> float:
    """Return the log of what items that were not scored add to Λ; -inf where all were.

    Args:
        falling: (K,) scores, best first.
        pool: N.
        calibration: of the model.
    """
    count = len(falling)
    if count == pool:
        return -math.inf
    a, sigma = calibration.slope, calibration.spread
    lowest = max(1, round(_LOWEST * count))
    # The ranks K - lowest + 1 to K have their middle here; the share above it places it.
    above = _NORMAL.inv_cdf(1.0 - (count - lowest / 2) / pool)
    mean = float(falling[-lowest:].mean()) - sigma * above
    end = _NORMAL.inv_cdf(1.0 - count / pool)
    tail = _NORMAL.cdf(end - a * sigma) / _NORMAL.cdf(end)
    each = a * mean + calibration.offset + (a * sigma) ** 2 / 2
    return math.log(pool - count) + each + (math.log(tail) if tail else -math.inf)


def _log_sum(logs: AnyFloats) -> float:
    """Return log Σ exp of (N,) numbers, N >= 1, without overflow."""
    largest = float(logs.max())
    return largest + math.log(float(np.exp(logs - largest).sum()))


def _share(part: float, whole: float) -> float:
    """Return exp(part - whole), at most 1."""
    return min(1.0, math.exp(part - whole))


def _logistic(odds: float) -> float:
    """Return 1 / (1 + exp(-odds)), without overflow."""
    small = math.exp(-abs(odds))
    return 1.0 / (1.0 + small) if odds >= 0 else small / (1.0 + small)
