"""What a run trains, and by what: AdamW, or Muon for hidden layers and AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hficma.model import Model

from .. import distributed
from ..config.options import Options, TextOptions
from .muon import Muon

PIXEL_CHANNELS = 3
"""Layers that read, or give, no more channels than these are no hidden ones."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What became of a step."""

    norm: float
    """L2 norm of the gradients of all processes together, before it is clipped."""
    taken: bool
    """Whether the parameters moved; they do not where loss or norm is no finite number."""


class Parameters:
    """The model's parameters that may be trained, trunk and rest apart.

    Args:
        model: whose weights are trained.
        head: of the loss, trained with the rest.
        options: whether words and sentences are trained.
    """

    def __init__(self, model: Model, head: nn.Module, options: TextOptions) -> None:
        fixed: set[str] = set()
        if not options.tune_words:
            fixed.add("ingredient_words.")
        if not options.tune_sentences:
            fixed.add("sentence_encoder.")
        self.trunk: list[nn.Parameter] = []
        self.rest: list[nn.Parameter] = []
        self.names: dict[nn.Parameter, str] = {}
        for name, parameter in model.named_parameters():
            if any(name.startswith(prefix) for prefix in fixed) or not parameter.requires_grad:
                parameter.requires_grad_(False)
                continue
            self.names[parameter] = name
            (self.trunk if name.startswith("trunk.") else self.rest).append(parameter)
        for name, parameter in head.named_parameters():
            self.names[parameter] = f"criterion.{name}"
            self.rest.append(parameter)
        self.matrices = _hidden_matrices(model) & self.names.keys()


class Optimizer:
    """What the loop steps: one optimizer or two, under one learning rate.

    Args:
        options: of the run.
        parameters: what is trained.
        device: where they are.
    """

    def __init__(self, options: Options, parameters: Parameters, device: torch.device) -> None:
        own = options.optimizer
        self._rate, self._clip, self._parameters = own.lr, own.clip, parameters
        matrices = parameters.matrices if own.name == "muon" else set()
        sides = (
            (parameters.trunk, options.trunk.lr or own.lr),
            (parameters.rest, own.lr),
        )

        def groups(*, of_matrices: bool) -> list[dict[str, Any]]:
            chosen = (
                ([one for one in side if (one in matrices) == of_matrices], base)
                for side, base in sides
            )
            return [{"params": some, "base": base} for some, base in chosen if some]

        decay = own.weight_decay
        self._parts: dict[str, torch.optim.Optimizer] = {
            "adam": torch.optim.AdamW(groups(of_matrices=False), weight_decay=decay)
        }
        if matrices:
            self._parts["muon"] = Muon(groups(of_matrices=True), weight_decay=decay)
        self.scaler = torch.amp.GradScaler(device.type, enabled=options.trainer.precision == "fp16")

    def set_rate(self, share: float) -> float:
        """Take this share of the learning rate; returns that of everything but the trunk."""
        for part in self._parts.values():
            for group in part.param_groups:
                group["lr"] = group["base"] * share
        return self._rate * share

    def step(self, loss: Tensor) -> Step:
        """Move the parameters against the gradient of a loss, unless that is no finite number.

        One infinite or undefined gradient would spread to every weight within a step or two, and
        clipping cannot help: infinity over infinity is no number. So nothing moves, neither
        weights nor the optimizers' moments. Processes decide alike, or their weights would part:
        the norm is that of the summed gradients, the same everywhere, and a loss that is no number
        in one process holds all of them.

        Args:
            loss: a scalar of this process's share of the batch.
        """
        trained = [*self._parameters.trunk, *self._parameters.rest]
        for parameter in trained:
            parameter.grad = None
        self.scaler.scale(loss).backward()
        distributed.sum_gradients(trained)
        for part in self._parts.values():
            self.scaler.unscale_(part)
        norm = float(torch.nn.utils.clip_grad_norm_(trained, self._clip or float("inf")))
        finite = math.isfinite(norm) and bool(torch.isfinite(loss.detach()))
        taken = distributed.everywhere(finite, loss.device)
        if taken:
            for part in self._parts.values():
                self.scaler.step(part)
        # Also where nothing moved: this is what brings the scale of fp16 down, and without it the
        # scaler refuses the next step.
        self.scaler.update()
        return Step(norm=norm, taken=taken)

    def state(self) -> dict[str, Tensor]:
        """What a resumed run must know, as `adam.exp_avg.NAME`, `muon.momentum.NAME`, ..."""
        return {
            f"{label}.{kind}.{name}": torch.as_tensor(value)
            for label, part in self._parts.items()
            for parameter, name in self._parameters.names.items()
            for kind, value in part.state.get(parameter, {}).items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave, on the parameters' device."""
        parameters = {name: parameter for parameter, name in self._parameters.names.items()}
        for key, value in tensors.items():
            label, _, rest = key.partition(".")
            kind, _, name = rest.partition(".")
            if label in self._parts:
                own = self._parts[label].state[parameters[name]]
                own[kind] = value.cpu() if kind == "step" else value


def _hidden_matrices(model: Model) -> set[nn.Parameter]:
    """Weights from features to features: what Muon is for.

    Those that read pixels, words or one number, or give one, have no directions to even out;
    nor have the kernels of depthwise convolutions.
    """
    layers = (nn.Linear, nn.Conv2d, nn.RNNBase)
    return {
        parameter
        for module in model.modules()
        if isinstance(module, layers)
        for parameter in module.parameters(recurse=False)
        if parameter.ndim > 1 and min(parameter.shape[:2]) > PIXEL_CHANNELS
    }
