"""Which calls become CUDA graphs; what only a GPU records is tested in `test_devices.py`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

torch = pytest.importorskip("torch", reason="recordings are torch's")


class Unrecorded:
    """Stands where a GPU would record: keeps the first arguments' shapes, and calls."""

    made: ClassVar[list[object]] = []
    pool = "a pool"

    def __init__(self, function: Callable[..., Sequence[torch.Tensor]], arguments: Any, pool: Any):
        results = function(*arguments)
        if any(bool(one.isnan().any()) for one in results):
            raise RuntimeError("operation not permitted when stream is capturing\nmore of it")
        self._function = function
        self.made.append((tuple(tuple(one.shape) for one in arguments), pool))

    def replay(self, arguments: Any) -> list[torch.Tensor]:
        return list(self._function(*arguments))


def test_recordings_are_made_of_what_comes_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each shape recorded would fill a GPU; one taken for another would replay wrong numbers."""
    from hficma.engine.runtimes import captured

    monkeypatch.setattr(captured, "Recording", Unrecorded)
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
    # The second call of each, three at most; all in the memory of the first.
    assert Unrecorded.made == [(((1,),), None), (((1,),), "a pool"), (((2,),), "a pool")]

    damaged = captured.CapturedCalls(lambda x: (x,), "cuda", name="the screen")
    caplog.set_level(logging.INFO, logger="hficma")
    for _ in range(4):
        assert damaged(torch.full((1,), torch.nan))[0].isnan()
    assert [record.getMessage() for record in caplog.records] == [
        "the screen runs without a CUDA graph: it cannot be recorded "
        "(operation not permitted when stream is capturing)"
    ]
