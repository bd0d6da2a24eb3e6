"""What two processes compute together is what one computes alone.

The processes are started once; each test looks at a part of what they wrote.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hficma.model import Model
from hficma.training import load_options
from hficma.training.config.options import LossOptions, Options
from hficma.training.losses.criterion import Criterion
from hficma.training.optim.optimizer import Optimizer, Parameters
from hficma.training.parallel import distributed
from hficma.training.parallel.batch_normalization import share_statistics
from tests.training.losses.test_criterion import CLASSES, EVERYTHING, PAIRS, batch, small_model
from tests.training.parallel.two_processes import run_in_two

SIDE = 64
"""Pixels a side: two regions."""


class Step(nn.Module):
    """A step over the photos of a batch: batch normalisation included."""

    def __init__(self, losses: LossOptions) -> None:
        super().__init__()
        self.model: Model = small_model().train()
        torch.manual_seed(0)
        self.criterion = Criterion(losses, self.model, classes=3)
        self.unused = nn.Parameter(torch.ones(3))
        self.used_in_one = nn.Parameter(torch.ones(3))

    def forward(self, rows: slice, spoiled: str = "") -> Tensor:
        _, recipe = batch(PAIRS)
        photos = torch.randint(
            256, (PAIRS, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(0)
        )
        image = self.model.image_tokens(self.model.image_features(photos[rows].to(torch.uint8)))
        loss: Tensor = self.criterion(
            self.model, image, self.model.recipe_tokens(recipe.select(rows)), classes=CLASSES[rows]
        ).value
        if rows.start == 0:
            loss = loss + self.used_in_one.sum()
        match spoiled:
            case "loss":
                return loss * torch.nan
            case "loss, not its gradient":
                return loss + torch.nan
            case "gradient":  # of the square root at 0: a single infinite number
                first = next(self.criterion.parameters()).flatten()[0]
                return loss + (first * 0).sqrt()
        return loss


def gradients(step: Step) -> dict[str, Tensor]:
    """The gradients that a step left behind, by parameter."""
    return {n: p.grad.clone() for n, p in step.named_parameters() if p.grad is not None}


def optimizer_of(step: Step) -> Optimizer:
    options: Options = load_options("hf-icma-small", ["optimizer.name=adam"])
    return Optimizer(
        options, Parameters(step.model, step.criterion, options.text), torch.device("cpu")
    )


def one_of_two(rank: int, folder: Path) -> None:
    """What each of the two processes does."""
    rows = slice(3 * rank, 3 * rank + 3)
    step = Step(EVERYTHING)
    share_statistics(step.model)
    if rank == 1:  # as another GPU might have come to slightly other weights
        with torch.no_grad():
            for tensor in (*step.parameters(), *step.buffers()):
                tensor.mul_(1.01) if tensor.is_floating_point() else tensor
    whole = distributed.replicated(step)
    # DDP takes the mean of the shares' gradients, which are parts of a sum.
    (whole(rows) * distributed.world_size()).backward()
    tensors = {f"gradient.{name}": value for name, value in gradients(step).items()}
    tensors |= {f"buffer.{name}": value.clone() for name, value in step.named_buffers()}
    # The trained part changes between epochs, and the module is replicated anew.
    step.model.trunk.requires_grad_(False)
    step.zero_grad()
    whole = distributed.replicated(step)
    (whole(rows) * distributed.world_size()).backward()
    tensors |= {f"frozen.{name}": value for name, value in gradients(step).items()}

    step.model.trunk.requires_grad_(True)
    optimizer, taken = optimizer_of(step), []
    whole = distributed.replicated(step)
    for spoiled in ("", "loss", "loss, not its gradient", "gradient", ""):
        taken.append(optimizer.step(whole(rows, spoiled if rank == 1 else "")).taken)
    tensors |= {f"weight.{name}": value for name, value in step.state_dict().items()}
    tensors["taken"] = torch.tensor(taken)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / f"{rank}.safetensors")

    order = folder / "order.txt"
    with distributed.first():
        seen = order.read_text() if order.exists() else "nothing"
        order.write_text(f"{rank}")
    shared = distributed.from_first({"rank": rank, "figures": [rank + 0.5]})
    (folder / f"{rank}.json").write_text(json.dumps({"seen": seen, "shared": shared}))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """What processes 0 and 1 wrote."""
    folder = tmp_path_factory.mktemp("two")
    run_in_two(one_of_two, folder, seconds=120)
    first, second = (
        {
            "tensors": load_file(folder / f"{rank}.safetensors"),
            **json.loads((folder / f"{rank}.json").read_text()),
        }
        for rank in (0, 1)
    )
    return first, second


@pytest.fixture(scope="module")
def one() -> Step:
    """The same step in one process, its gradients and running statistics."""
    step = Step(EVERYTHING)
    step(slice(0, PAIRS)).backward()
    return step


def named(two: tuple[Any, Any], prefix: str, process: int = 0) -> dict[str, Tensor]:
    tensors = two[process]["tensors"]
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


@pytest.mark.parametrize("process", [0, 1])
def test_two_processes_give_the_gradients_of_one(two: Any, one: Step, process: int) -> None:
    """Without gathered embeddings and shared statistics each would see half the batch."""
    expected, result = gradients(one), named(two, "gradient.", process)
    assert "unused" not in expected
    for name, gradient in expected.items():
        torch.testing.assert_close(result[name], gradient, rtol=1e-3, atol=2e-6, msg=name)
    assert any(name.startswith("model.trunk.") for name in expected)


def test_running_statistics_are_those_of_the_whole_batch(two: Any, one: Step) -> None:
    """What is saved would be the statistics of process 0's photos alone."""
    for name, buffer in one.named_buffers():
        for process in (0, 1):
            result = named(two, "buffer.", process)[name]
            torch.testing.assert_close(result, buffer, rtol=1e-4, atol=1e-6, msg=name)


def test_what_is_frozen_later_takes_no_part(two: Any) -> None:
    """Its gradient would be summed in vain, or an old hook would add to the others' twice."""
    before, after = named(two, "gradient."), named(two, "frozen.")
    assert not any(name.startswith("model.trunk.") for name in after)
    for name in after:
        torch.testing.assert_close(after[name], before[name], rtol=1e-3, atol=2e-6, msg=name)


def test_both_skip_what_one_of_them_cannot_take(two: Any) -> None:
    """If one went on alone, they would train two models from then on, and save one of them."""
    assert two[0]["tensors"]["taken"].tolist() == [True, False, False, False, True]
    first, second = named(two, "weight.", 0), named(two, "weight.", 1)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        assert value.isfinite().all(), name


def test_one_process_fills_a_cache_before_the_others_look_at_it(two: Any) -> None:
    """Two that decode the same photos would write the same files at once."""
    assert two[0]["seen"] == "nothing"
    assert two[1]["seen"] == "0"


def test_all_decide_by_the_figures_of_process_0(two: Any) -> None:
    """Image encoders that took turns at different epochs would wait for each other's gradients."""
    assert two[0]["shared"] == two[1]["shared"] == {"rank": 0, "figures": [0.5]}
