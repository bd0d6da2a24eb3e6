"""Several GPUs: embeddings are gathered so that the loss is that of one large batch.

Each process scores its own photos against everyone's recipes; rows of scores are gathered, so
every process computes the same loss:

                     recipes of 0   recipes of 1
    photos of 0      computed by process 0 |
    photos of 1      computed by process 1 v  rows are gathered: both have the whole table

Two gradients differ. A gathered recipe enters the rows of every process, so its gradient is summed
over them (`gather`). A gathered row enters a loss that all compute alike, so each process already
has its whole gradient (`gather_rows`). Gradients of parameters, added over processes, then equal
those of one process with the whole batch. With one process all of this does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hficma.model import Tokens


def start(device: torch.device) -> None:
    """Join the processes that `torchrun` started; do nothing where there is only one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process; 0 is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def gather(values: Tensor) -> Tensor:
    """Return everyone's values one below the other; the gradient is summed over processes.

    Args:
        values: (n, ...), the same n everywhere.
    """
    if world_size() == 1:
        return values
    gathered: Tensor = _Gather.apply(values, True)  # type: ignore[no-untyped-call]
    return gathered


def gather_rows(values: Tensor) -> Tensor:
    """Return everyone's values as `gather` does, for a loss that every process computes alike.

    Each process then has the whole gradient already and keeps the slice of its own rows.

    Args:
        values: (n, ...), the same n everywhere.
    """
    if world_size() == 1:
        return values
    gathered: Tensor = _Gather.apply(values, False)  # type: ignore[no-untyped-call]
    return gathered


def gather_tokens(tokens: Tokens) -> Tokens:
    """Return everyone's items, padded to the longest; see `gather`."""
    if world_size() == 1:
        return tokens
    lengths = gather(tokens.lengths)
    values = tokens.padded(int(lengths.max())).tokens
    if values is not None:
        values = gather(values)
    return Tokens(gather(tokens.global_), values, lengths)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up gradients over processes, in place; where none has one it becomes zeros."""
    if world_size() == 1:
        return
    for parameter in parameters:
        if parameter.requires_grad:
            # A process whose share of the batch did not touch it must join the sum all the same, or
            # the others wait for it without end.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)


def everywhere(fact: bool, device: torch.device) -> bool:
    """Return whether something holds in every process: the same answer in all of them."""
    if world_size() == 1:
        return fact
    flag = torch.tensor(float(fact), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MIN)
    return bool(flag)


def share(positions: Any) -> Any:
    """Return this process's part of a batch; a rest that does not divide is left out.

    Args:
        positions: (B,) of the whole batch, the same in every process.
    """
    if world_size() == 1:
        return positions
    size = len(positions) // world_size()
    return positions[rank() * size : (rank() + 1) * size]


class _Gather(torch.autograd.Function):
    """Gathers values forwards, and hands each process the gradient of its own rows backwards."""

    @staticmethod
    def forward(context: Any, values: Tensor, summed: bool) -> Tensor:
        # All processes bring as many rows (`share`), so that rank r's begin at r · count.
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
