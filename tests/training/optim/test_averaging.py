"""The running mean of the weights, beside the formula, and from checkpoints of older releases."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hficma.training.optim.averaging import RAW, raw_weights, restore_mean, running_mean

DECAY = 0.8


def small_model() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def walk(model: nn.Sequential, step: int) -> None:
    """Move every weight, and BatchNorm's statistics, in some way of this step's own."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    model.train()(torch.randn(8, 3, generator=generator))


def floats(model: nn.Module) -> dict[str, Tensor]:
    state = model.state_dict()
    return {name: value.clone() for name, value in state.items() if value.is_floating_point()}


def formula(means: dict[str, Tensor], model: nn.Module, step: int) -> None:
    """d · mean + (1 - d) · weights, d = min(decay, (1 + t) / (10 + t)), in place."""
    share = min(DECAY, (1 + step) / (10 + step))
    for name, value in floats(model).items():
        means[name] = share * means[name] + (1 - share) * value


def test_the_mean_is_that_of_the_formula_statistics_too() -> None:
    """A decay off by a step, or statistics of other weights, would score a model that is none."""
    model = small_model()
    mean = running_mean(model, DECAY)
    walk(model, 1)
    mean.update_parameters(model)  # the first one is taken whole
    means = floats(model)
    for step in range(2, 40):
        walk(model, step)
        mean.update_parameters(model)
        formula(means, model, step)
    assert means.keys() >= {"0.weight", "1.running_var"}
    for name, value in floats(mean.module).items():
        torch.testing.assert_close(value, means[name], rtol=1e-5, atol=1e-6)


def test_a_checkpoint_of_an_older_release_goes_on_with_its_mean() -> None:
    """Older releases kept the mean as the weights, and the model's own floats as `raw.NAME`."""
    model = small_model()
    means = floats(model)
    for step in range(1, 6):
        walk(model, step)
        formula(means, model, step)
    whole_numbers = {"1.num_batches_tracked": torch.tensor(5)}
    weights = {name: value.clone() for name, value in {**means, **whole_numbers}.items()}
    tensors = {f"{RAW}{name}": value for name, value in floats(model).items()}
    assert len(tensors) < len(raw_weights(model)), "older releases left out whole numbers"

    again = small_model()
    mean = running_mean(again, DECAY)
    restore_mean(mean, again, weights, tensors, steps=5)
    for one in (model, again):
        walk(one, 6)
    mean.update_parameters(again)
    formula(means, model, 6)
    for name, value in floats(mean.module).items():
        torch.testing.assert_close(value, means[name], rtol=1e-5, atol=1e-6)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
