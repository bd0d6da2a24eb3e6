"""Bounded queues, each with a thread that answers what waits, in batches.

    requests ->  [ . . . . . ]  -> up to `batch` of one key -> one run -> their futures
                 at most `limit`

A batch closes when it is full, or when its first job has waited `wait` seconds for company. It
waits only for as many as the last batch had: a client that asks alone never waits, and while
requests keep coming there is company. After a pause longer than `wait` nobody is expected.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from . import metrics
from .refusals import Busy, DeadlinePassed, Unavailable

Work = TypeVar("Work")
Result = TypeVar("Result")

_log = logging.getLogger("hficma")


@dataclass(eq=False, kw_only=True)
class Job(Generic[Work, Result]):
    """Something to do, and who waits for it."""

    work: Work
    """What there is to do."""
    key: Hashable
    """Jobs of one key can be done together."""
    deadline: float
    """When nobody waits any more, by `time.monotonic`."""
    future: asyncio.Future[Result]
    """Gets the result; cancelled where nobody waits any more."""
    arrival: float = field(default_factory=time.monotonic)
    """When it was submitted, by `time.monotonic`."""


class Lane(Generic[Work, Result]):
    """A bounded queue and its thread.

    Args:
        name: in metrics and in the thread's name.
        run: does the work of a batch, all of one key: a result or an exception for each.
        limit: jobs that wait, at most.
        batch: jobs that are done together, at most.
        wait: seconds that the first of a batch waits for company, at most.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[Work]], Sequence[Result | Exception]],
        *,
        limit: int,
        batch: int = 1,
        wait: float = 0.0,
    ) -> None:
        self.name = name
        self._run = run
        self._limit, self._batch, self._wait = limit, batch, wait
        self._waiting: deque[Job[Work, Result]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._last_size = 1
        self._last_end = -math.inf
        self._seconds_a_job = 0.05
        self._length = metrics.QUEUE_LENGTH.labels(name)
        self._waited = metrics.QUEUE_SECONDS.labels(name)
        self._sizes = metrics.BATCH_SIZE.labels(name)
        self._thread = threading.Thread(target=self._work, name=f"lane-{name}", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """Return whether another job would be refused."""
        return len(self._waiting) >= self._limit

    @property
    def retry_after(self) -> int:
        """Return in how many whole seconds what waits now will be done, at least 1."""
        return max(1, math.ceil(len(self._waiting) * self._seconds_a_job))

    def submit(self, work: Work, *, key: Hashable, deadline: float) -> asyncio.Future[Result]:
        """Put work into the queue, from the event loop.

        Args:
            work: what to do.
            key: work of one key may be done together.
            deadline: by `time.monotonic`; afterwards it is dropped.

        Returns:
            a future of its result. Cancelled, the work is dropped if it has not begun.

        Raises:
            Busy: the queue is full.
            Unavailable: the lane was closed.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        job = Job(work=work, key=key, deadline=deadline, future=future)
        with self._changed:
            if self._closed:
                raise Unavailable("the service is ending")
            if self.full:
                raise Busy("too many requests wait; try again in a moment")
            self._waiting.append(job)
            self._length.set(len(self._waiting))
            self._changed.notify_all()
        return future

    def close(self) -> None:
        """Take no more work, finish what waits and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        """Do one batch after the other until the lane is closed and nothing waits."""
        while True:
            jobs = self._next_batch()
            if jobs is None:
                return
            if not jobs:
                continue
            start = time.monotonic()
            self._sizes.observe(len(jobs))
            results: Sequence[Result | Exception]
            try:
                results = self._run([job.work for job in jobs])
            except Exception as error:
                results = [error] * len(jobs)
            except BaseException as error:
                # Libraries in Rust panic with such; a lane without its thread would answer nobody.
                results = [RuntimeError(f"{type(error).__name__}: {error}")] * len(jobs)
            self._last_end = time.monotonic()
            self._last_size = len(jobs)
            # A moving average: the last ten batches or so tell how fast the queue moves now.
            share = (self._last_end - start) / len(jobs)
            self._seconds_a_job += 0.1 * (share - self._seconds_a_job)
            _deliver(jobs, results)
            del jobs, results  # or photos would be held until the next batch

    def _next_batch(self) -> list[Job[Work, Result]] | None:
        """Wait for a batch and take it; None where the lane was closed and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            first = self._waiting[0]
            idle = time.monotonic() - self._last_end > self._wait
            company = 1 if idle else min(self._last_size, self._batch)
            while (left := first.arrival + self._wait - time.monotonic()) > 0:
                if self._closed or self._count(first.key) >= company:
                    break
                self._changed.wait(left)
            jobs: list[Job[Work, Result]] = []
            others: deque[Job[Work, Result]] = deque()
            late: list[Job[Work, Result]] = []
            now = time.monotonic()
            for job in self._waiting:
                if job.future.done():
                    metrics.DROPPED.labels(self.name, "client_gone").inc()
                elif job.deadline <= now:
                    metrics.DROPPED.labels(self.name, "deadline").inc()
                    late.append(job)
                elif job.key == first.key and len(jobs) < self._batch:
                    self._waited.observe(now - job.arrival)
                    jobs.append(job)
                else:
                    others.append(job)
            self._waiting = others
            self._length.set(len(others))
        if late:
            _deliver(late, [DeadlinePassed("was not answered in time; try again")] * len(late))
        return jobs

    def _count(self, key: Hashable) -> int:
        """Return how many jobs of a key wait, at most a batch."""
        return sum(job.key == key for job in self._waiting)


def _deliver(jobs: Sequence[Job[Work, Result]], results: Sequence[Result | Exception]) -> None:
    """Hand results to those who wait, in their event loop."""

    def settle() -> None:
        for job, result in zip(jobs, results, strict=True):
            if job.future.done():  # cancelled meanwhile
                continue
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)

    try:
        jobs[0].future.get_loop().call_soon_threadsafe(settle)
    except RuntimeError:  # the loop was closed: nobody waits
        _log.debug("an answer came after the end")
