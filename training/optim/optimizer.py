"""Which parameters a run trains, and what moves them: AdamW, or Muon and AdamW together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hficma.model import Model

from ..config.options import Options, TextOptions
from ..parallel import distributed
from .muon import Muon

PIXEL_CHANNELS = 3
"""Layers that read, or give, no more channels than these are no hidden ones."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """The outcome of an optimizer's step."""

    norm: float
    """L2 norm of the gradients of all processes together, before it is clipped."""
    taken: bool
    """Whether the parameters moved; they do not where loss or norm is no finite number."""


class Parameters:
    """The model's parameters that may be trained: the image encoder's, and the rest.

    Args:
        model: whose weights are trained.
        head: of the loss, trained with the rest.
        options: whether words and sentences are trained.
    """

    def __init__(self, model: Model, head: nn.Module, options: TextOptions) -> None:
        frozen: set[str] = set()
        if not options.tune_words:
            frozen.add("ingredient_words.")
        if not options.tune_sentences:
            frozen.add("sentence_encoder.")
        if not options.tune_encoder:
            frozen.add("text_encoder.")
        self.image_encoder: list[nn.Parameter] = []
        self.rest: list[nn.Parameter] = []
        self.names: dict[nn.Parameter, str] = {}
        """By parameter: what a checkpoint calls it."""
        for name, parameter in model.named_parameters():
            if any(name.startswith(prefix) for prefix in frozen) or not parameter.requires_grad:
                parameter.requires_grad_(False)
                continue
            self.names[parameter] = name
            part = self.image_encoder if name.startswith("trunk.") else self.rest
            part.append(parameter)
        for name, parameter in head.named_parameters():
            self.names[parameter] = f"criterion.{name}"
            self.rest.append(parameter)
        self.matrices = _hidden_matrices(model) & self.names.keys()
        """Those of `names` that Muon may move."""


class Optimizer:
    """Moves parameters by one optimizer or two, under one learning rate and one schedule.

    Args:
        options: of the run.
        parameters: what is trained.
        device: where they are.
    """

    def __init__(self, options: Options, parameters: Parameters, device: torch.device) -> None:
        settings = options.optimizer
        self._rate, self._clip, self._parameters = settings.lr, settings.clip, parameters
        matrices = parameters.matrices if settings.name == "muon" else set()
        parts = (
            (parameters.image_encoder, options.trunk.lr or settings.lr),
            (parameters.rest, settings.lr),
        )

        def groups(*, of_matrices: bool) -> list[dict[str, Any]]:
            # `base` is the group's full learning rate, of which the schedule takes a share.
            return [
                {"params": members, "base": base}
                for part, base in parts
                if (members := [one for one in part if (one in matrices) == of_matrices])
            ]

        decay = settings.weight_decay
        self._parts: dict[str, torch.optim.Optimizer] = {
            "adam": torch.optim.AdamW(groups(of_matrices=False), weight_decay=decay)
        }
        if matrices:
            self._parts["muon"] = Muon(groups(of_matrices=True), weight_decay=decay)
        self.scaler = torch.amp.GradScaler(device.type, enabled=options.trainer.precision == "fp16")

    def set_rate(self, share: float) -> float:
        """Take a share of the learning rate, and return the rate of all but the image encoder."""
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
            loss: a scalar of this process's share of the batch, from a module that
                `distributed.replicated` gave.
        """
        trained = [*self._parameters.image_encoder, *self._parameters.rest]
        for parameter in trained:
            parameter.grad = None
        # The shares' gradients are parts of a sum (see `distributed`), and DDP takes their mean.
        self.scaler.scale(loss * distributed.world_size()).backward()
        # fp16's scale goes before the norm is taken, or clipping would cut at another size.
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
        """Return what a resumed run must know, as `adam.exp_avg.NAME`, `muon.momentum.NAME`, ..."""
        return {
            f"{label}.{kind}.{name}": torch.as_tensor(value)
            for label, part in self._parts.items()
            for parameter, name in self._parameters.names.items()
            for kind, value in part.state.get(parameter, {}).items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned; tensors of other names are passed over.

        Args:
            tensors: on the parameters' device.
        """
        parameters = {name: parameter for parameter, name in self._parameters.names.items()}
        for key, value in tensors.items():
            label, _, rest = key.partition(".")
            kind, _, name = rest.partition(".")
            if label in self._parts:
                state = self._parts[label].state[parameters[name]]
                state[kind] = value.cpu() if kind == "step" else value  # torch keeps Adam's there


def _hidden_matrices(model: Model) -> set[nn.Parameter]:
    """Return the weights from features to features: what Muon is for.

    Those that read pixels, words or one number, or give one, have no directions to even out;
    nor have the kernels of depthwise convolutions.
    """
    layers = (nn.Linear, nn.Conv2d, nn.RNNBase)
    # Two dimensions at least, and more than PIXEL_CHANNELS both in and out; a depthwise kernel is
    # (O, 1, h, w). Embeddings are no layers of these.
    return {
        parameter
        for module in model.modules()
        if isinstance(module, layers)
        for parameter in module.parameters(recurse=False)
        if parameter.ndim > 1 and min(parameter.shape[:2]) > PIXEL_CHANNELS
    }
