"""Runs the workers: torch's `DataLoader`, kept alive over all epochs of a run.

    this process      allocates buffers that all share, and asks for batches by number
    a worker          decodes and crops into a buffer of its own, and answers where

A tensor sent through torch's queue would come as a file descriptor, which the two processes hand
over in a conversation for each batch: that waits for the worker, which is decoding the next one.
"""

from __future__ import annotations

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


class Loader:
    """Gives the photos of batches in order, made ahead by worker processes.

    Args:
        batches: what a batch is, by the buffers that workers write to.
        workers: processes; None takes as many as the machine is good for, 0 reads in this one.
        device: where the photos go: a GPU copies from the buffers itself.
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
        self.workers = workers
        self._buffers: Tensor | None = None
        if workers:
            # One buffer is read, one written, and the others wait in between.
            shape = (workers, ahead + 2, batch_bytes)
            self._buffers = torch.empty(shape, dtype=torch.uint8).share_memory_()
            if device.type == "cuda":
                _pin(self._buffers)
        # The loader asks for an iterator of requests at each epoch: of this list, which changes.
        self._requests: list[Request] = []
        self._loader: DataLoader[PhotoBatch] = DataLoader(
            batches(self._buffers),
            batch_size=None,  # a request is a whole batch: crops of one size, stacked by its worker
            sampler=self._requests,
            num_workers=workers,
            prefetch_factor=ahead or None,
            persistent_workers=workers > 0,
            multiprocessing_context=_start_method() if workers else None,
            worker_init_fn=_begin_worker,
            collate_fn=_unchanged,
            # Seeds of workers are drawn from it; from torch's own they would take dropout's draws.
            generator=torch.Generator(),
        )

    def epoch(self, requests: Sequence[Request]) -> Iterator[PhotoBatch]:
        """Yield the photos of batches, in order; each is there until the next is taken.

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
            if isinstance(batch.pixels, Place):
                assert self._buffers is not None
                worker, buffer, shape = batch.pixels
                pixels = self._buffers[worker, buffer, : math.prod(shape)].view(shape)
                batch = batch._replace(pixels=pixels)
            yield batch


def _pin(buffers: Tensor) -> None:
    """Tell CUDA of buffers, so that it copies from them while the process goes on."""
    cuda, address = torch.cuda.cudart(), buffers.data_ptr()
    if int(cuda.cudaHostRegister(address, buffers.nbytes, 0)) != 0:
        logger.warning("photos are copied to the GPU more slowly: their memory cannot be pinned")
    else:
        weakref.finalize(buffers, cuda.cudaHostUnregister, address)


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
