"""The whole loss: parts, blocks and groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hficma.errors import InputError
from hficma.model import ImageConfig, Model, ModelConfig, RecipeBatch, build_model
from hficma.model.encoders.image.features import mean_pooled
from hficma.text.word_vectors import WordVectors
from hficma.training.config.options import LossOptions
from hficma.training.losses.criterion import Criterion, neighbour_groups
from hficma.training.losses.retrieval_losses import Hinge, InfoNCE, Similarities, Triplets

PAIRS = 6
CLASSES = torch.tensor([1, 1, 2, 2, 0, 0])


def small_model() -> Model:
    words = tuple(f"word{number}" for number in range(30))
    rows = np.random.default_rng(0).normal(size=(30, 8))
    config = ModelConfig(
        width=8, heads=2, image=ImageConfig(encoder="tiny"), word_dim=8, sentence="mean",
        global_dim=8,
        global_similarity="cosine",
    )  # fmt: skip
    return build_model(config, WordVectors.from_rows(words, (3,) * 30, rows))


def batch(count: int, seed: int = 0) -> tuple[Tensor, RecipeBatch]:
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, 5, (count,), generator=generator)
    ids = torch.randint(2, 32, (count, 4), generator=generator)
    ids *= torch.arange(4) < counts[:, None]
    sentences = torch.randn(count, 3, 8, generator=generator)
    recipe = RecipeBatch(
        ids,
        counts,
        sentences,
        torch.full((count,), 3),
        torch.ones(count).long(),
        torch.zeros(count, 0, 0),
        torch.zeros(count, 0).long(),
    )
    return torch.randn(count, 49, 192, generator=generator), recipe


def gradients(options: LossOptions) -> tuple[float, dict[str, Tensor]]:
    """The loss of one batch and every parameter's gradient."""
    model = small_model()
    torch.manual_seed(0)
    criterion = Criterion(options, model, classes=3)
    regions, recipe = batch(PAIRS)
    loss = criterion(
        model,
        model.image_tokens(mean_pooled(regions)),
        model.recipe_tokens(recipe),
        classes=CLASSES,
    )
    loss.value.backward()
    gradient_by_name = {
        name: parameter.grad
        for module in (model, criterion)
        for name, parameter in module.named_parameters()
        if parameter.grad is not None and not name.startswith("trunk.")
    }
    return float(loss.value.detach()), gradient_by_name


EVERYTHING = LossOptions(
    on_score=Hinge(),
    on_global=Triplets(strategies={"irr": 1.0, "rii": 1.0, "sirr": 0.1, "iri": 0.5}),
    on_local=InfoNCE(temperature=0.5),
    classification=0.05,
)


def test_blocks_give_the_gradients_of_the_whole() -> None:
    """`loss.block` only bounds the memory."""
    value, whole = gradients(EVERYTHING)
    blocked_value, blocked = gradients(
        LossOptions(**{**EVERYTHING.__dict__, "block": 2}),
    )
    assert blocked_value == pytest.approx(value, rel=1e-5)
    for name, gradient in whole.items():
        torch.testing.assert_close(blocked[name], gradient, rtol=1e-3, atol=1e-6)


def test_groups_are_the_mean_of_their_own_losses() -> None:
    """`loss.group` only leaves out pairs across groups: S within a group is what it was."""
    options = LossOptions(on_score=InfoNCE(), group=3)
    value, _ = gradients(options)
    model = small_model()
    regions, recipe = batch(PAIRS)
    with torch.no_grad():
        image, text = model.image_tokens(mean_pooled(regions)), model.recipe_tokens(recipe)
        scores = model.score(image, text).total
        groups = neighbour_groups(image.global_, text.global_, 3)
        losses = [
            InfoNCE()(Similarities(scores=scores[rows][:, rows], classes=rows)).value
            for rows in groups
        ]
    assert value == pytest.approx(float(sum(losses)) / len(losses), rel=1e-5)


@given(count=st.integers(2, 40), size=st.integers(2, 12), seed=st.integers(0, 99))
def test_groups_are_a_partition(count: int, size: int, seed: int) -> None:
    """A pair in no group is never learnt from; one in a group of its own has no negative."""
    images, recipes = torch.randn(2, count, 4, generator=torch.Generator().manual_seed(seed))
    groups = [rows.tolist() for rows in neighbour_groups(images, recipes, size)]
    assert sorted(row for rows in groups for row in rows) == list(range(count))
    sizes = [len(rows) for rows in groups]
    assert min(sizes) >= 2
    assert max(sizes) <= max(size, 3)
    assert max(sizes) - min(sizes) <= 1


def test_groups_hold_the_pairs_that_the_global_part_confuses() -> None:
    """Two kinds of dish, shuffled: groups at random would mix them."""
    kinds = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])
    vectors = torch.nn.functional.one_hot(kinds, 2).float()
    for rows in neighbour_groups(vectors, vectors, 4):
        assert len(set(kinds[rows].tolist())) == 1


def test_a_loss_that_cannot_act_where_it_is_put_is_an_error_before_training() -> None:
    options = LossOptions(on_score=Triplets(strategies={"irr": 1.0, "iri": 1.0}))
    with pytest.raises(InputError, match=r"on_score.strategies: iri .* loss.on_global"):
        Criterion(options, small_model(), classes=1)
