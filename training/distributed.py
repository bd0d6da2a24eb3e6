"""Several GPUs: a batch's embeddings gathered so that its loss is that of one large batch.

Each process scores its own photos against everyone's recipes; rows of scores are gathered, so
every process computes the same loss. Gradients of parameters, added over processes, then equal
those of one process with the whole batch. With one process all of this does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from hficma.model import Tokens


def start(device: torch.device) -> None:
    """Join the processes that `torchrun` started; nothing where there is only one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of the process that asks; 0 is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def gather(values: Tensor) -> Tensor:
    """Everyone's values one below the other; its gradient is summed over processes.

    Args:
        values: (n, ...), the same n everywhere.
    """
    if world_size() == 1:
        return values
    gathered: Tensor = _Gather.apply(values, True)  # type: ignore[no-untyped-call]
    return gathered


def gather_rows(values: Tensor) -> Tensor:
    """Like `gather`, for values from which every process computes the same loss.

    Each process then has the whole gradient already and keeps the slice of its own rows.
    """
    if world_size() == 1:
        return values
    gathered: Tensor = _Gather.apply(values, False)  # type: ignore[no-untyped-call]
    return gathered


def gather_tokens(tokens: Tokens) -> Tokens:
    """Everyone's items, padded to the longest."""
    if world_size() == 1:
        return tokens
    lengths = gather(tokens.lengths)
    values = tokens.tokens
    if values is not None:
        values = F.pad(values, (0, 0, 0, int(lengths.max()) - values.shape[1]))
        values = gather(values)
    return Tokens(gather(tokens.global_), values, lengths)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up gradients over processes; those that no process has stay None."""
    if world_size() == 1:
        return
    for parameter in parameters:
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)


def everywhere(fact: bool, device: torch.device) -> bool:
    """Whether something holds in every process; all are told the same."""
    if world_size() == 1:
        return fact
    flag = torch.tensor(float(fact), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MIN)
    return bool(flag)


def share(positions: Any) -> Any:
    """An equal part of a batch for each process; a rest that does not divide is left out."""
    if world_size() == 1:
        return positions
    size = len(positions) // world_size()
    return positions[rank() * size : (rank() + 1) * size]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor, summed: bool) -> Tensor:
        context.summed, context.count = summed, len(values)
        parts = [torch.empty_like(values) for _ in range(world_size())]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].contiguous()
        if context.summed:
            dist.all_reduce(gradient)
        first = rank() * context.count
        return gradient[first : first + context.count], None
