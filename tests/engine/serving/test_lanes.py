"""A lane answers what waits in batches, is bounded, and drops what nobody waits for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from hficma.engine.serving.lanes import Lane
from hficma.engine.serving.refusals import Busy, DeadlinePassed, Unavailable


class Oven:
    """Work that can be held up, and remembers its batches."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        assert self.open.wait(10)
        return [ValueError(str(n)) if n < 0 else 10 * n for n in numbers]


def soon() -> float:
    return time.monotonic() + 10


def test_what_comes_while_another_is_done_is_done_together() -> None:
    """The first waits for nobody; the others share what they can, by their keys."""

    async def run() -> list[list[int]]:
        oven = Oven()
        lane: Lane[int, int] = Lane("test", oven, limit=10, batch=3, wait=0.02)
        first = lane.submit(1, key="a", deadline=soon())
        while not oven.batches:
            await asyncio.sleep(0.001)
        rest = [lane.submit(n, key="ab"[n > 5], deadline=soon()) for n in (2, 6, 3, 4, 5)]
        oven.open.set()
        assert await asyncio.gather(first, *rest) == [10, 20, 60, 30, 40, 50]
        await asyncio.to_thread(lane.close)
        return oven.batches

    assert asyncio.run(run()) == [[1], [2, 3, 4], [6], [5]]


def test_an_idle_lane_begins_at_once() -> None:
    """Whoever asks alone does not wait for company that never comes."""

    async def run() -> float:
        oven = Oven()
        oven.open.set()
        lane: Lane[int, int] = Lane("test", oven, limit=10, batch=8, wait=5.0)
        start = time.monotonic()
        for number in range(5):
            await lane.submit(number, key=None, deadline=soon())
        await asyncio.to_thread(lane.close)
        return time.monotonic() - start

    assert asyncio.run(run()) < 4


def test_a_full_lane_refuses_and_a_closed_one_finishes() -> None:
    """A queue without a bound would answer everybody too late; a stop must not lose answers."""

    async def run() -> None:
        oven = Oven()
        lane: Lane[int, int] = Lane("test", oven, limit=2)
        begun = lane.submit(0, key=None, deadline=soon())
        while not oven.batches:
            await asyncio.sleep(0.001)
        waiting = [lane.submit(n, key=None, deadline=soon()) for n in (1, -2)]
        assert lane.full
        with pytest.raises(Busy):
            lane.submit(3, key=None, deadline=soon())
        closing = asyncio.create_task(asyncio.to_thread(lane.close))
        await asyncio.sleep(0.01)
        with pytest.raises(Unavailable):
            lane.submit(3, key=None, deadline=soon())
        oven.open.set()
        await closing
        assert await begun == 0
        assert await waiting[0] == 10
        with pytest.raises(ValueError, match="-2"):
            await waiting[1]

    asyncio.run(run())


def test_what_nobody_waits_for_is_never_done() -> None:
    """Work for a client that has gone, or for one whose time is over, delays the others."""

    async def run() -> list[list[int]]:
        oven = Oven()
        lane: Lane[int, int] = Lane("test", oven, limit=10, batch=8)
        first = lane.submit(1, key=None, deadline=soon())
        while not oven.batches:
            await asyncio.sleep(0.001)
        gone = lane.submit(2, key=None, deadline=soon())
        late = lane.submit(3, key=None, deadline=time.monotonic() + 0.01)
        last = lane.submit(4, key=None, deadline=soon())
        gone.cancel()
        await asyncio.sleep(0.05)
        oven.open.set()
        assert await first == 10
        with pytest.raises(DeadlinePassed):
            await late
        assert await last == 40
        await asyncio.to_thread(lane.close)
        return oven.batches

    assert asyncio.run(run()) == [[1], [4]]


class Panic(BaseException):
    """What libraries in Rust end with: no `Exception`."""


def test_a_panic_fails_its_own_batch_alone() -> None:
    """A lane whose thread ended would let all later requests wait for their deadlines."""

    def work(numbers: Sequence[int]) -> list[int | Exception]:
        if 0 in numbers:
            raise Panic("index out of bounds")
        return list(numbers)

    async def run() -> int:
        lane: Lane[int, int] = Lane("test", work, limit=10)
        with pytest.raises(RuntimeError, match="Panic: index out of bounds"):
            await lane.submit(0, key=None, deadline=soon())
        number = await lane.submit(1, key=None, deadline=soon())
        await asyncio.to_thread(lane.close)
        return number

    assert asyncio.run(run()) == 1
