"""Each loss against its formula written out with loops in float64, and against gradcheck."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hficma.training.losses.retrieval_losses import (
    Hinge,
    InfoNCE,
    Lifted,
    Loss,
    Pairwise,
    Similarities,
    Triplets,
    classification,
)


def scores_of(seed: int, photos: int = 6, recipes: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (photos, recipes or photos)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1


def relu(value: float) -> float:
    return max(0.0, value)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_hinge_takes_the_hardest_negative_of_each_row_and_column(seed: int) -> None:
    s = scores_of(seed, 5)
    expected = 0.0
    for i in range(5):
        expected += max(relu(0.2 + s[i, j] - s[i, i]) for j in range(5) if j != i)
        expected += max(relu(0.2 + s[j, i] - s[i, i]) for j in range(5) if j != i)
    assert float(Hinge()(Similarities(scores=s)).value) == pytest.approx(float(expected))


@pytest.mark.parametrize("aggregation", ["mean", "valid"])
@pytest.mark.parametrize("negatives", ["all", "hardest", "semi_hard"])
def test_instance_triplets_are_their_formula(negatives: str, aggregation: str) -> None:
    """`mean` must not count the diagonal, `valid` only what is active, semi-hard as FaceNet."""
    s, images, recipes, margin = scores_of(3), scores_of(4), scores_of(5), 0.3
    tables = {"irr": s, "rii": s.T, "iri": images, "rir": recipes}
    total = 0.0
    for table in tables.values():
        costs: list[float] = []
        for i in range(6):
            gaps = [float(table[i, j] - s[i, i]) for j in range(6) if j != i]
            if negatives == "hardest":
                gaps = [max(gaps)]
            if negatives == "semi_hard":
                gaps = [gap for gap in gaps if -margin < gap < 0]
            costs += [relu(margin + gap) for gap in gaps]
        divisor = len(costs) if aggregation == "mean" else sum(cost > 0 for cost in costs)
        total += sum(costs) / max(divisor, 1)
    loss = Triplets(
        margin=margin,
        strategies=dict.fromkeys(tables, 1.0),
        negatives=negatives,  # type: ignore[arg-type]
        aggregation=aggregation,  # type: ignore[arg-type]
    )
    value = loss(Similarities(scores=s, images=images, recipes=recipes)).value
    assert float(value) == pytest.approx(total / 4)


@given(
    seed=st.integers(0, 10_000),
    classes=st.lists(st.integers(0, 3), min_size=7, max_size=7),
)
@settings(max_examples=60, deadline=None)
def test_semantic_triplets_are_their_formula(seed: int, classes: list[int]) -> None:
    """Also where an anchor has no partner, or all share one class: the published code crashes."""
    s = scores_of(seed, 7)
    total = 0.0
    for table in (s, s.T):
        labelled = [i for i in range(7) if classes[i]]
        triplets: list[tuple[float, list[float]]] = []
        for i in labelled:
            same = [j for j in labelled if j != i and classes[j] == classes[i]]
            other = [j for j in labelled if classes[j] != classes[i]]
            if same and other:
                triplets.append((float(table[i, same[0]]), [float(table[i, j]) for j in other]))
        number = min((len(other) for _, other in triplets), default=0)
        costs = [relu(0.3 + n - p) for p, other in triplets for n in other[:number]]
        total += sum(costs) / max(sum(cost > 0 for cost in costs), 1)
    loss = Triplets(margin=0.3, strategies={"sirr": 1.0, "srii": 1.0})
    value = loss(Similarities(scores=s, classes=torch.tensor(classes))).value
    assert float(value) == pytest.approx(total / 2)


def test_strategies_are_weighted_then_divided_by_their_number() -> None:
    s, classes = scores_of(8), torch.tensor([1, 1, 2, 2, 0, 0])
    batch = Similarities(scores=s, classes=classes)
    parts = {name: float(Triplets(strategies={name: 1.0})(batch).value) for name in ("irr", "sirr")}
    both = Triplets(strategies={"irr": 1.0, "sirr": 0.1})(batch).value
    assert float(both) == pytest.approx((parts["irr"] + 0.1 * parts["sirr"]) / 2)


def test_no_active_triplet_is_zero_and_has_no_gradient_of_nan() -> None:
    """The published adaptive mean is 0/0 here."""
    s = (torch.eye(4) * 2 - 1).requires_grad_()
    value = Triplets(strategies={"irr": 1.0, "rii": 1.0})(Similarities(scores=s)).value
    value.backward()  # type: ignore[no-untyped-call]
    assert float(value.detach()) == 0
    assert s.grad is not None
    assert torch.isfinite(s.grad).all()


def test_bad_pairs_do_not_count_the_diagonal() -> None:
    s = torch.zeros(4, 4)  # every real triplet is active
    assert Triplets()(Similarities(scores=s)).bad_pairs == 0


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_lifted_is_song_et_al_with_their_scale(seed: int) -> None:
    """The published code is B² times larger, by operator precedence."""
    d = 1 - scores_of(seed, 5)
    total = 0.0
    for i in range(5):
        inner = sum(math.exp(0.3 - d[i, j]) for j in range(5) if j != i)
        inner += sum(math.exp(0.3 - d[j, i]) for j in range(5) if j != i)
        total += relu(float(d[i, i]) + math.log(inner)) ** 2
    assert float(Lifted()(Similarities(scores=1 - d)).value) == pytest.approx(total / 10)


@pytest.mark.parametrize(("positive", "negative"), [(0.0, 0.9), (0.3, 0.9)])
def test_pairwise_without_mismatch_is_the_mean_over_pairs(positive: float, negative: float) -> None:
    s = scores_of(2)
    loss = Pairwise(positive_margin=positive, negative_margin=negative, mismatch=0.0)
    expected = sum(relu(float(1 - s[i, i]) - positive) for i in range(6)) / 6
    assert float(loss(Similarities(scores=s)).value) == pytest.approx(expected)


def test_pwc_is_the_cosine_embedding_loss_with_its_margin() -> None:
    """The published PWC ignores the margin of 0.1 that its options state."""
    photos = torch.nn.functional.normalize(scores_of(1, 6, 4))
    recipes = torch.nn.functional.normalize(scores_of(2, 6, 4))
    generator = torch.Generator().manual_seed(0)
    loss = Pairwise(positive_margin=0.0, negative_margin=0.9, mismatch=1.0)
    value = loss(Similarities(scores=photos @ recipes.T, generator=generator)).value
    generator.manual_seed(0)
    torch.rand(6, generator=generator)
    drawn = (torch.arange(6) + torch.randint(1, 6, (6,), generator=generator)) % 6
    expected = torch.nn.functional.cosine_embedding_loss(
        photos[drawn], recipes, -torch.ones(6), margin=0.1
    )
    assert float(value) == pytest.approx(float(expected))
    assert (drawn != torch.arange(6)).all(), "a mismatch must never be the item's own photo"


def test_infonce_is_its_formula() -> None:
    s = scores_of(5, 4)
    expected = 0.0
    for i in range(4):
        row = sum(math.exp(s[i, j] / 0.1) for j in range(4))
        column = sum(math.exp(s[j, i] / 0.1) for j in range(4))
        weight = math.exp(s[i, i] / 0.1)
        expected -= (math.log(weight / row) + math.log(weight / column)) / 8
    value = InfoNCE(temperature=0.1)(Similarities(scores=s)).value
    assert float(value) == pytest.approx(expected)


def test_classification_leaves_out_items_without_a_class() -> None:
    logits = scores_of(1, 5, 3)
    classes = torch.tensor([0, 1, 2, 0, 1])
    expected = -sum(
        float(torch.log_softmax(logits, 1)[i, c]) for i, c in enumerate(classes) if c
    ) / 3  # fmt: skip
    assert float(classification(logits, classes)) == pytest.approx(expected)
    assert float(classification(logits, classes * 0)) == 0


@pytest.mark.parametrize(
    "loss",
    [
        Hinge(),
        Triplets(strategies={"irr": 1.0, "rii": 1.0, "sirr": 0.1, "srii": 0.1}),
        Triplets(negatives="hardest", aggregation="mean"),
        Triplets(negatives="semi_hard"),
        Triplets(strategies={"iri": 1.0, "rir": 1.0, "siii": 1.0, "srrr": 1.0}),
        Lifted(),
        Pairwise(mismatch=0.0),
        InfoNCE(temperature=0.5),
    ],
    ids=lambda loss: f"{loss.name}",
)
def test_gradients_are_those_of_the_value(loss: Loss) -> None:
    classes = torch.tensor([1, 1, 2, 2])

    def value(scores: Tensor, images: Tensor, recipes: Tensor) -> Tensor:
        batch = Similarities(scores=scores, images=images, recipes=recipes, classes=classes)
        return loss(batch).value

    inputs = tuple(scores_of(seed, 4).requires_grad_() for seed in (11, 12, 13))
    check: Callable[..., bool] = torch.autograd.gradcheck
    assert check(value, inputs)


def test_a_strategy_that_needs_more_than_scores_says_so() -> None:
    with pytest.raises(ValueError, match="global part"):
        Triplets(strategies={"iri": 1.0})(Similarities(scores=scores_of(1)))
    with pytest.raises(ValueError, match="classes"):
        Triplets(strategies={"sirr": 1.0})(Similarities(scores=scores_of(1)))
    with pytest.raises(ValueError, match="strategies"):
        Triplets(strategies={"irx": 1.0})
