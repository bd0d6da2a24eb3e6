"""Several processes, one a GPU, that learn from one batch together.

Each process scores its own photos against everyone's recipes; rows of scores are gathered, so
every process computes the same loss:

                     recipes of 0   recipes of 1
    photos of 0      computed by process 0 |
    photos of 1      computed by process 1 v  rows are gathered: both have the whole table

Two gradients differ. A gathered recipe enters the rows of every process, so its gradient is summed
over them (`gather`). A gathered row enters a loss that all compute alike, so each process already
has its whole gradient (`gather_rows`). Gradients of parameters, added over processes, then equal
those of one process with the whole batch; torch's DDP adds them up bucket by bucket while the
backward pass still runs (`replicated`). With one process all of this does nothing.

What fills a cache, measures or writes is done by process 0 alone, and the others wait for it:
`first`, `from_first`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hficma.errors import HficmaError
from hficma.model import Tokens

Value = TypeVar("Value")

LONGEST_WAIT = timedelta(days=1)
"""For what process 0 does alone: decoding a million photos, learning sentence vectors. Should it
end instead, the others hear of it at once."""

_waiting: dist.ProcessGroup | None = None
"""All processes, over the CPU: for waits that would outlast the limit of a step's collectives."""


class ProcessLostError(HficmaError):
    """Another process of a training has ended, so that this one cannot go on."""


def start(device: torch.device) -> None:
    """Join the processes that were started with this one; do nothing where there is only one.

    Args:
        device: that this process trains on.
    """
    global _waiting
    if processes() == 1 or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    _waiting = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)


def processes() -> int:
    """Return how many processes were started together, on all machines: `WORLD_SIZE`."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """Return the number of this process on its machine, which is the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0")) if processes() > 1 else 0


def local_processes() -> int:
    """Return how many processes were started together on this machine: `LOCAL_WORLD_SIZE`."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if processes() > 1 else 1


def is_first() -> bool:
    """Return whether this is the process that writes and speaks, also before `start`."""
    return processes() == 1 or os.environ.get("RANK", "0") == "0"


def world_size() -> int:
    """Return the number of processes that have joined."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process; 0 is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextlib.contextmanager
def first() -> Iterator[None]:
    """Run a block in process 0, and then in the others, which find in the cache what it wrote.

    Raises:
        ProcessLostError: in the others, where process 0 fails in the block.
    """
    if rank() > 0:
        _wait()
    yield
    if rank() == 0:
        _wait()


def from_first(value: Value) -> Value:
    """Return process 0's value in every process, so that all decide by the same.

    Args:
        value: of this process; only that of process 0 counts.

    Raises:
        ProcessLostError: process 0 has ended.
    """
    if world_size() == 1:
        return value
    values: list[Any] = [value]
    with _peers():
        dist.broadcast_object_list(values, src=0, group=_waiting)
    result: Value = values[0]
    return result


def replicated(module: nn.Module) -> nn.Module:
    """Return a module whose gradients are means over the processes once `backward` has run.

    The weights and buffers of process 0 become everyone's: what each computed for itself on a GPU
    may differ in its last bits.

    Args:
        module: whose forward pass is a training step. Only parameters that require gradients now
            take part, so it is replicated anew when they change.
    """
    if world_size() == 1:
        return module
    # A process whose share of a batch did not touch a parameter must join the sum all the same, or
    # the others wait for it without end.
    return DistributedDataParallel(
        module, find_unused_parameters=True, gradient_as_bucket_view=True
    )


def gather(values: Tensor) -> Tensor:
    """Return everyone's values one below the other; the gradient is summed over processes.

    Args:
        values: (n, ...), the same n everywhere.
    """
    return _gathered(values, summed=True)


def gather_rows(values: Tensor) -> Tensor:
    """Return everyone's values as `gather` does, for a loss that every process computes alike.

    Each process then has the whole gradient already and keeps the slice of its own rows.

    Args:
        values: (n, ...), the same n everywhere.
    """
    return _gathered(values, summed=False)


def _gathered(values: Tensor, *, summed: bool) -> Tensor:
    """Return everyone's values, and either the sum of everyone's gradients or this process's."""
    if world_size() == 1:
        return values
    gathered: Tensor = _Gather.apply(values, summed)  # type: ignore[no-untyped-call]
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


def add_up(values: Tensor) -> Tensor:
    """Return the sum of everyone's values, and so of their gradients.

    Args:
        values: of one shape everywhere.
    """
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


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


def _wait() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        with _peers():
            dist.barrier(group=_waiting)


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    """Say in one line that another process has ended while this one waited for it."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessLostError(
            f"process {rank()} of {world_size()}: another process has ended, or kept it waiting "
            f"for more than {LONGEST_WAIT.days} day"
        ) from error


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


class _Sum(torch.autograd.Function):
    """Adds values up over processes, and gradients too: each process's values enter all sums."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient
