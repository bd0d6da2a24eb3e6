"""Muon, and the two optimizers of a run under one learning rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hficma.model import Model
from hficma.training.config.options import (
    ImageEncoderOptions,
    OptimizerOptions,
    Options,
    TextOptions,
)
from hficma.training.optim.muon import Muon, orthogonalised
from hficma.training.optim.optimizer import Optimizer, Parameters
from tests.model.factories import make_model

CPU = torch.device("cpu")


@pytest.fixture
def tiny_model() -> Model:
    return make_model()


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(4, 40),
    columns=st.integers(4, 40),
    scale=st.sampled_from([1e-8, 1.0, 1e6]),
    seed=st.integers(0, 1000),
)
def test_a_step_keeps_the_directions_of_a_matrix_and_evens_out_their_sizes(
    rows: int, columns: int, scale: float, seed: int
) -> None:
    """Against the singular value decomposition: same vectors, singular values near 1."""
    generator = torch.Generator().manual_seed(seed)
    rank = min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, rank, generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(columns, rank, generator=generator, dtype=torch.float64))[0]
    sizes = torch.logspace(0, -2, rank, dtype=torch.float64) * scale
    result = orthogonalised((left * sizes) @ right.T)
    inner = left.T @ result @ right
    assert torch.allclose(inner, torch.diag(inner.diagonal()), atol=1e-6)
    assert 0.6 < float(inner.diagonal().min()) <= float(inner.diagonal().max()) < 1.3


def test_muon_steps_as_torchs_own() -> None:
    """torch has Muon for matrices, in bfloat16; ours must go the same way in every shape."""
    generator = torch.Generator().manual_seed(0)
    for shape in ((24, 8), (8, 24), (16, 16)):
        ours, theirs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
        mine = Muon([ours], lr=0.1, weight_decay=0.01)
        reference = torch.optim.Muon(
            [theirs], lr=0.1, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
        )
        for _ in range(4):
            ours.grad = torch.randn(shape, generator=generator)
            theirs.grad = ours.grad.clone()
            mine.step()
            reference.step()
        mine_moved, theirs_moved = (ours.detach() - 1).flatten(), (theirs.detach() - 1).flatten()
        share = mine_moved @ theirs_moved / mine_moved.norm() ** 2
        assert float(share) == pytest.approx(1, abs=0.02)


def test_a_kernel_is_the_matrix_of_its_output_channels() -> None:
    """A convolution's kernel moved as any other matrix would mix its outputs."""
    kernel = nn.Parameter(torch.zeros(6, 4, 3, 3))
    matrix = nn.Parameter(torch.zeros(6, 36))
    kernel.grad = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    matrix.grad = kernel.grad.flatten(1)
    Muon([kernel, matrix], lr=0.1).step()
    assert torch.equal(kernel.flatten(1), matrix)


def _optimizer(model: Model, **options: object) -> tuple[Optimizer, Parameters]:
    chosen = Options(
        optimizer=OptimizerOptions(name="muon", lr=0.01, **options),  # type: ignore[arg-type]
        trunk=ImageEncoderOptions(lr=0.002),
    )
    parameters = Parameters(model, nn.Module(), TextOptions())
    return Optimizer(chosen, parameters, CPU), parameters


def test_muon_moves_hidden_layers_and_adam_all_else(tiny_model: Model) -> None:
    """Words, biases and first layers have no directions to even out: Muon would shake them."""
    parameters = Parameters(tiny_model, nn.Module(), TextOptions())
    matrices = {parameters.names[one] for one in parameters.matrices}
    assert "trunk.3.weight" in matrices
    assert "ingredient_gru.ahead.weight_hh_l0" in matrices
    assert not {"trunk.0.weight", "ingredient_words.weight"} & matrices
    assert not any("bias" in name for name in matrices)


def test_the_learning_rate_reaches_both_optimizers(tiny_model: Model) -> None:
    optimizer, parameters = _optimizer(tiny_model)
    assert optimizer.set_rate(0.0) == 0.0
    before = {one: one.detach().clone() for one in parameters.names}
    optimizer.step(_loss(parameters))
    assert all(torch.equal(one, value) for one, value in before.items())
    assert optimizer.set_rate(1.0) == 0.01
    optimizer.step(_loss(parameters))
    still = [parameters.names[one] for one, value in before.items() if torch.equal(one, value)]
    assert still == []


def test_a_loss_that_is_no_number_moves_nothing(tiny_model: Model) -> None:
    optimizer, parameters = _optimizer(tiny_model)
    optimizer.set_rate(1.0)
    before = {one: one.detach().clone() for one in parameters.names}
    optimizer.step(_loss(parameters) * float("nan"))
    assert all(torch.equal(one, value) for one, value in before.items())


def test_a_restored_optimizer_goes_on_as_the_old_one(tiny_model: Model) -> None:
    """Momentum that is lost, or lands at another parameter, would change the next step."""
    optimizer, parameters = _optimizer(tiny_model, weight_decay=0.1)
    optimizer.set_rate(1.0)
    for _ in range(2):
        optimizer.step(_loss(parameters))
    state = {name: value.clone() for name, value in optimizer.state().items()}
    weights = {one: one.detach().clone() for one in parameters.names}
    optimizer.step(_loss(parameters))
    expected = [one.detach().clone() for one in parameters.names]
    with torch.no_grad():
        for one, value in weights.items():
            one.copy_(value)
    again, _ = _optimizer(tiny_model, weight_decay=0.1)
    again.set_rate(1.0)
    again.restore(state)
    again.step(_loss(parameters))
    assert all(torch.equal(a, b) for a, b in zip(expected, parameters.names, strict=True))


def _loss(parameters: Parameters) -> Tensor:
    """Some loss with a gradient everywhere."""
    draws = np.random.default_rng(0)
    return torch.stack(
        [
            (one * torch.from_numpy(draws.standard_normal(tuple(one.shape))).float()).sum()
            + one.square().sum()
            for one in parameters.names
        ]
    ).sum()
