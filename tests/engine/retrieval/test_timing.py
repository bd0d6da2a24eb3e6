"""The timer of a search counts every second once, whoever spends it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hficma.engine.retrieval.timing import StageTimer


def test_stages_add_up_to_the_total_and_are_shared_by_queries() -> None:
    """A stage that is counted twice, or by one query alone, misleads whoever tunes a server."""
    timer = StageTimer(queries=4)
    for name in ("decode", "encode", "decode"):
        time.sleep(0.002)
        timer.end_stage(name)
    milliseconds = timer.milliseconds()
    assert list(milliseconds) == ["decode", "encode", "total"]
    assert milliseconds["decode"] + milliseconds["encode"] == pytest.approx(milliseconds["total"])
    assert milliseconds["decode"] == pytest.approx(1000 * timer.seconds("decode") / 4)
    assert milliseconds["decode"] >= 1.0


def test_parts_of_many_threads_are_summed_and_end_no_stage() -> None:
    """Tiles are gathered by all threads of the pool at once."""
    timer = StageTimer()

    def gather(_: int) -> None:
        with timer.part("gather"):
            time.sleep(0.001)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(gather, range(50)))
    timer.end_stage("rerank")
    assert timer.seconds("gather") >= 0.05
    assert timer.milliseconds()["total"] == pytest.approx(timer.milliseconds()["rerank"])
    with pytest.raises(ZeroDivisionError), timer.part("lost"):
        raise ZeroDivisionError
    assert timer.seconds("lost") > 0
    assert timer.seconds("never") == 0
