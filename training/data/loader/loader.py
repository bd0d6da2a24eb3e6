"""Runs the workers: torch's `DataLoader`, kept alive over all epochs of a run.

    this process      allocates buffers that all share, and asks for batches by number
    a worker          decodes and crops into a buffer of its own, and answers where

A tensor sent through torch's queue would come as a file descriptor, which the two processes hand
over in a conversation for each batch: that waits for the worker, which is decoding the next one.

A GPU copies a batch out of its buffer when it comes to that, after the steps before. The worker
writes there again without asking, so that no batch is asked for before the last one's copy is done.
"""

from __future__ import annotations

import contextlib
import logging
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_all_start_methods
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hficma.errors import InputError

from ...parallel import distributed
from ..photo_reading import interrupts_held, leave_interrupts_to_the_parent
from .batches import PhotoBatch, PhotoBatches, Place, Request
from .workers import batches_ahead, default_workers

logger = logging.getLogger("hficma")

_PORTABLE = 1
"""cudaHostRegisterPortable: pinned for every GPU that this process uses."""


class Loader:
    """Gives the photos of batches in order, made ahead by worker processes.

    Args:
        batches: what a batch is, by the buffers that workers write to.
        workers: processes; None takes as many as the machine is good for, 0 reads in this one.
        device: where the photos go: a GPU copies from the buffers while the process goes on.
        batch_bytes: of a batch's pixels, at most.
    """

    def __init__(
        self,
        batches: Callable[[Tensor | None], PhotoBatches],
        *,
        workers: int | None,
        device: torch.device,
        batch_bytes: int,
    ) -> None:
        workers = default_workers() if workers is None else workers
        workers, ahead = batches_ahead(workers, batch_bytes) if workers else (0, 0)
        self.workers, self._device = workers, device
        self._buffers: Tensor | None = None
        if workers:
            # One buffer is read, one written, and the others wait in between.
            shape = (workers, ahead + 2, batch_bytes)
            self._buffers = torch.empty(shape, dtype=torch.uint8).share_memory_()
            if device.type == "cuda":
                _pin(self._buffers, device)
        # The loader asks for an iterator of requests at each epoch: of this list, which changes.
        self._requests: list[Request] = []
        self._loader: DataLoader[PhotoBatch] = DataLoader(
            batches(self._buffers),
            batch_size=None,  # a request is a whole batch: crops of one size, stacked by its worker
            sampler=self._requests,
            num_workers=workers,
            prefetch_factor=ahead if workers else None,
            persistent_workers=workers > 0,
            multiprocessing_context=_start_method() if workers else None,
            worker_init_fn=_begin_worker,
            collate_fn=_unchanged,
            # Seeds of workers are drawn from it; from torch's own they would take dropout's draws.
            generator=torch.Generator(),
        )

    def epoch(self, requests: Sequence[Request]) -> Iterator[PhotoBatch]:
        """Yield batches in order, their photos on the device; each is there until the next.

        Raises:
            InputError: photos cannot be read, or a worker was ended from outside.
        """
        self._requests[:] = requests
        # Workers inherit it: before their first line has run, Ctrl-C would print a traceback.
        with interrupts_held():
            batches = iter(self._loader)
        while (batch := _next(batches)) is not None:
            if batch.error is not None:
                raise InputError(batch.error)
            pixels = batch.pixels
            if isinstance(pixels, Place):
                assert self._buffers is not None
                worker, buffer, shape = pixels
                pixels = self._buffers[worker, buffer, : math.prod(shape)].view(shape)
            with _on_device(pixels, self._device) as copy:
                yield batch._replace(pixels=copy)


@contextlib.contextmanager
def _on_device(pixels: Tensor, device: torch.device) -> Iterator[Tensor]:
    """Give a block a batch on its device; the block ends when the buffer may be written again."""
    copy = pixels.to(device, non_blocking=True)
    if device.type != "cuda":
        yield copy
        return
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(device))
    try:
        yield copy
    finally:
        copied.synchronize()  # of this copy alone: what the block asked for after it may still run


def _pin(buffers: Tensor, device: torch.device) -> None:
    """Tell CUDA of buffers, so that it copies from them while the process goes on."""
    with torch.cuda.device(device):  # else the first GPU is told, and gives memory for that
        cuda, address = torch.cuda.cudart(), buffers.data_ptr()
        if int(cuda.cudaHostRegister(address, buffers.nbytes, _PORTABLE)) == 0:
            # Before the memory goes: by then `_on_device` has waited for all copies.
            weakref.finalize(buffers, cuda.cudaHostUnregister, address)
            return
        logger.warning("photos are copied to the GPU more slowly: their memory cannot be pinned")
        # CUDA keeps the error until it is asked, and torch asks after the next kernel: this one.
        with contextlib.suppress(RuntimeError):
            torch.ones(1, device=device)


def _next(batches: Iterator[PhotoBatch]) -> PhotoBatch | None:
    """Return the next batch, or None at the end.

    Raises:
        InputError: a worker was ended from outside.
    """
    try:
        return next(batches, None)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            "a process that reads photos was ended from outside, perhaps for want of memory; go on "
            "with fewer of them (loader.workers)"
        ) from error


def _start_method() -> str:
    """Return how workers are started.

    A fork has the dataset at once, and takes no memory of its own for it. Libraries that several
    training processes talk through do not survive one.
    """
    if "fork" not in get_all_start_methods():
        return "spawn"
    return "fork" if distributed.world_size() == 1 else "forkserver"


def _begin_worker(_: int) -> None:
    """Prepare a worker process."""
    leave_interrupts_to_the_parent()


def _unchanged(batch: Any) -> Any:
    """Return a batch as it is; torch would make a tensor of all that it holds."""
    return batch
