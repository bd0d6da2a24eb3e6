"""Which calls become CUDA graphs; what only a GPU records is tested in `test_devices.py`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

torch = pytest.importorskip("torch", reason="recordings are torch's")


class Unrecorded:
    """Stands where a GPU would record: keeps the first arguments' shapes, and calls."""

    made: ClassVar[list[tuple[object, object]]] = []

    def __init__(
        self, function: Callable[..., Sequence[torch.Tensor]], arguments: Any, shared: object
    ):
        results = function(*arguments)
        if any(bool(one.isnan().any()) for one in results):
            raise RuntimeError("operation not permitted when stream is capturing\nmore of it")
        self._function = function
        self.made.append((tuple(tuple(one.shape) for one in arguments), shared))

    def replay(self, arguments: Any) -> list[torch.Tensor]:
        return list(self._function(*arguments))


def test_recordings_are_made_of_what_comes_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each shape recorded would fill a GPU; one taken for another would replay wrong numbers."""
    from hficma.engine.runtimes import captured

    monkeypatch.setattr(captured, "Recording", Unrecorded)
    monkeypatch.setattr(captured, "Shared", lambda _device: object())
    monkeypatch.setattr(Unrecorded, "made", [])
    calls = captured.CapturedCalls(
        lambda x, factor=1: (factor * x,), "cuda", name="the screen", most=3
    )
    one, two = torch.ones(1), torch.ones(2)
    for x, numbers in (
        (one, (2,)), (two, (2,)), (one, (2,)), (one, (2,)), (one, (3,)), (one, (3,)),
        (two, (2,)), (torch.ones(3), (2,)), (torch.ones(3), (2,)), (torch.ones(4), ()),
    ):  # fmt: skip
        [result] = calls(x, numbers=numbers)
        assert torch.equal(result, x * (numbers[0] if numbers else 1))
    # The second call of each, three at most; all in one memory.
    assert [shapes for shapes, _ in Unrecorded.made] == [((1,),), ((1,),), ((2,),)]
    assert len({id(shared) for _, shared in Unrecorded.made}) == 1

    damaged = captured.CapturedCalls(lambda x: (x,), "cuda", name="the screen")
    caplog.set_level(logging.INFO, logger="hficma")
    for _ in range(4):
        assert damaged(torch.full((1,), torch.nan))[0].isnan()
    assert [record.getMessage() for record in caplog.records] == [
        "the screen runs without a CUDA graph: it cannot be recorded "
        "(operation not permitted when stream is capturing)"
    ]


def test_one_function_is_recorded_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording begins with a wait for the whole device, which would break another thread's."""
    from hficma.engine.runtimes import captured

    monkeypatch.setattr(captured, "Recording", Unrecorded)
    monkeypatch.setattr(captured, "Shared", lambda _device: object())
    inside = threading.Semaphore(1)
    overlaps: list[bool] = []

    def function(x: torch.Tensor) -> Sequence[torch.Tensor]:
        alone = inside.acquire(blocking=False)
        overlaps.append(not alone)
        time.sleep(0.05)
        if alone:
            inside.release()
        return (x,)

    def record(size: int) -> None:
        calls = captured.CapturedCalls(function, "cuda")
        calls._record(captured.ShapeClass((((size,), torch.float32),), ()), [torch.ones(size)])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(record, (1, 2, 3)))
    assert overlaps == [False] * 3
