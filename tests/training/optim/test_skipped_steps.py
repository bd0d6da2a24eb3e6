"""Losses and gradients that are no finite number: no weight, moment or mean may take them in."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from hficma.artifacts.manifest import read_manifest
from hficma.artifacts.workspace import Workspace
from hficma.model import load_model
from hficma.training import load_options, train
from hficma.training.losses.criterion import BatchLoss, Criterion
from hficma.training.optim.optimizer import Optimizer, Parameters
from hficma.training.optim.skipped_steps import MOST_IN_A_ROW, SkippedSteps, TrainingError
from hficma.training.runs.log import read_log
from tests.model.factories import make_model

Trained = Callable[..., Path]
CPU = torch.device("cpu")
TUNED = ("trunk.schedule=tuned", "trainer.average=0.9", "trainer.keep=last")


def optimizer_of(model: nn.Module, *overrides: str) -> Optimizer:
    options = load_options("hf-icma-small", overrides)
    parameters = Parameters(model, nn.Module(), options.text)  # type: ignore[arg-type]
    return Optimizer(options, parameters, CPU)


def a_loss(model: nn.Module) -> Tensor:
    return sum((p.square().sum() for p in model.parameters() if p.requires_grad), torch.zeros(()))


def one_infinite_gradient(model: nn.Module) -> Tensor:
    """A finite loss with a single infinite number in its gradient: that of sqrt at 0."""
    first = next(p for p in model.parameters() if p.requires_grad)
    return a_loss(model) + (first.flatten()[0] * 0).sqrt()


BAD: dict[str, Callable[[nn.Module], Tensor]] = {
    "infinite gradient": one_infinite_gradient,
    "nan loss": lambda model: a_loss(model) * math.nan,
    "infinite loss": lambda model: a_loss(model) * math.inf,
    "nan loss, finite gradient": lambda model: a_loss(model) + math.nan,
}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["adam", "muon"])
@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_number_moves_nothing_and_the_next_step_is_taken(
    bad: str, name: str, precision: str
) -> None:
    """Weights and moments are as they were; and fp16's scaler, enabled here, takes a new step."""
    model = make_model()
    optimizer = optimizer_of(
        model, f"optimizer.name={name}", f"trainer.precision={precision}", "optimizer.clip=5"
    )
    assert optimizer.step(a_loss(model)).taken
    before = {key: value.clone() for key, value in model.state_dict().items()}
    moments = {key: value.clone() for key, value in optimizer.state().items()}
    step = optimizer.step(BAD[bad](model))
    assert not step.taken
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(torch.equal(moments[key], value) for key, value in optimizer.state().items())
    assert optimizer.step(a_loss(model)).taken, "the step after a skipped one"
    assert all(p.isfinite().all() for p in model.parameters())
    assert any(not torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_the_scale_of_fp16_falls_with_each_gradient_that_overflows() -> None:
    """A scale that stays would overflow for ever."""
    model = make_model()
    optimizer = optimizer_of(model, "trainer.precision=fp16")
    first = optimizer.scaler.get_scale()
    optimizer.step(one_infinite_gradient(model))
    optimizer.step(one_infinite_gradient(model))
    assert optimizer.scaler.get_scale() == first / 4


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[int]], None]:
    """Lets chosen steps, counted from 1 over the process, overflow in the image encoder itself."""
    state: dict[str, Any] = {"step": 0, "bad": set()}
    inner = Criterion.forward

    def forward(
        criterion: Criterion, model: Any, image: Any, *rest: Any, **named: Any
    ) -> BatchLoss:
        state["step"] += 1
        if state["step"] in state["bad"]:
            for module in model.trunk.modules():
                if isinstance(module, nn.BatchNorm2d) and module.training:
                    # What a forward pass that overflows leaves behind it.
                    module(torch.full((2, module.num_features, 2, 2), math.inf))
            image = image._replace(global_=image.global_ * math.inf)
        return inner(criterion, model, image, *rest, **named)

    monkeypatch.setattr(Criterion, "forward", forward)

    def choose(bad: set[int]) -> None:
        state["bad"], state["step"] = bad, 0

    return choose


def finite(run: Path, which: str = "last") -> bool:
    tensors = load_model(run, weights=which).state_dict().values()
    return all(bool(value.isfinite().all()) for value in tensors)


def test_a_run_skips_counts_and_says_bad_steps(
    poison: Callable[[set[int]], None], trained: Trained
) -> None:
    """Weights, their running mean and BatchNorm's statistics stay finite; the log says how many."""
    poison({2, 5})
    run = trained("poisoned", *TUNED)
    assert finite(run)
    log = read_log(run)
    epochs = [record for record in log if record["kind"] == "epoch"]
    assert [record["skipped"] for record in epochs] == [1, 1]
    assert all(math.isfinite(record["train"]["loss"]) for record in epochs)
    assert [r["step"] for r in log if r["kind"] == "step" and "skipped" in r] == [2, 5]
    assert "NaN" not in (run / "log.jsonl").read_text()
    assert "Infinity" not in (run / "log.jsonl").read_text()
    assert "skipped steps" in (run / "curves.html").read_text()


def test_a_resumed_run_with_skipped_steps_ends_at_the_same_bits(
    poison: Callable[[set[int]], None], trained: Trained, workspace: Workspace
) -> None:
    """The mean of the weights counts the steps that were taken; by all of them it would drift."""
    # Nothing that depends on how many epochs there will be.
    options = (*TUNED, "optimizer.decay=none", "photos.small=0")
    poison({2})
    whole = trained("poisoned-whole", *options)
    poison({2})
    part = trained("poisoned-part", *options, "trainer.epochs=1")
    poison(set())
    train(run=part, overrides=["trainer.epochs=2"], resume=True, workspace=workspace)

    def weights(run: Path) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = load_file(
            run / read_manifest(run, kind="run").facts["last"]["file"]
        )
        return tensors

    one, other = weights(whole), weights(part)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_that_cannot_go_on_ends_and_keeps_its_last_checkpoint(
    poison: Callable[[set[int]], None], trained: Trained, workspace: Workspace
) -> None:
    poison(set(range(4, 1000)))
    with pytest.raises(
        TrainingError, match=r"epoch 2: .*checkpoint of epoch 1 is kept.*lr"
    ) as error:
        trained("hopeless", *TUNED, "trainer.epochs=3")
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)
    run = workspace.home / "runs" / "hopeless"
    assert read_manifest(run, kind="run").facts["last"]["epoch"] == 1
    assert finite(run)


def test_too_many_in_a_row_end_a_run_and_fp16_may_look_for_its_scale() -> None:
    steps = SkippedSteps(scaled=True)
    for _ in range(MOST_IN_A_ROW - 1):
        steps.count(taken=False)
    steps.end_epoch(last=False)
    with pytest.raises(TrainingError, match=str(MOST_IN_A_ROW)):
        steps.count(taken=False)
    some = SkippedSteps(scaled=False)
    for taken in (False, True) * (2 * MOST_IN_A_ROW):
        some.count(taken)
    some.end_epoch(last=True)
    assert str(some).startswith("50 of 100 steps skipped")


@pytest.mark.parametrize("last", [True, False])
def test_an_epoch_without_a_step_ends_a_run(last: bool) -> None:
    """A run of few steps never reaches the limit in a row, and would end as if it had learnt."""
    steps = SkippedSteps(scaled=last)
    steps.begin_epoch()
    steps.count(taken=False)
    with pytest.raises(TrainingError, match="all 1 steps"):
        steps.end_epoch(last=last)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_in_half_precision_takes_steps(precision: str, trained: Trained) -> None:
    run = trained(f"half-{precision}", f"trainer.precision={precision}")
    epochs = [record for record in read_log(run) if record["kind"] == "epoch"]
    assert sum(record["skipped"] for record in epochs) < epochs[-1]["step"]
    assert finite(run)
