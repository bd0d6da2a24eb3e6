"""A running mean of a run's weights: steadier than its last step's, at no cost in serving."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

RAW = "raw."
"""Before the names of the model's own weights, where a checkpoint holds them beside the mean."""


def running_mean(model: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential mean of a model, to be updated after each of its steps.

    After step t the mean is d · mean + (1 - d) · weights, with d = min(decay, (1 + t) / (10 + t)).
    BatchNorm's statistics are averaged like weights: they belong to the weights that they were
    seen with.

    Args:
        model: whose weights and buffers are averaged; it is copied.
        decay: share of the old mean that stays at each step, between 0 and 1.
    """

    def average(
        means: tuple[Tensor, ...] | list[Tensor],
        weights: tuple[Tensor, ...] | list[Tensor],
        updates: Tensor | int,
    ) -> None:
        """Take weights into their means, in place; torch calls it from the second step on."""
        # The first weights are random. A full memory of 1 / (1 - decay) steps would hold them for
        # much of a short run, so the mean forgets faster while it is young.
        step = int(updates) + 1
        share = min(decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(share)(means, weights, updates)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


def raw_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's own state as a checkpoint holds it beside the mean's."""
    return {f"{RAW}{name}": value.clone() for name, value in model.state_dict().items()}


def restore_mean(
    mean: AveragedModel,
    model: nn.Module,
    weights: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    steps: int,
) -> None:
    """Resume from a checkpoint.

    Args:
        mean: of `running_mean`.
        model: whose mean it is.
        weights: the checkpoint's weights, which are the mean's.
        tensors: the checkpoint's state, with the model's own weights as `raw_weights` names them;
            older releases left out buffers of whole numbers, which are then the mean's.
        steps: how many were taken into the mean.
    """
    mean.module.load_state_dict(weights)
    mean.n_averaged.fill_(steps)
    raw = {k.removeprefix(RAW): v for k, v in tensors.items() if k.startswith(RAW)}
    model.load_state_dict({**weights, **raw})
