"""What is simulated follows from what was measured, and errs in no direction that flatters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hficma.benchmarks.cluster.simulation import Assumptions, MeasuredTimes, simulate

TIMES = MeasuredTimes(
    items=1000, candidates=200, scan_ms=np.full(5, 4.0), score_ms=np.full(5, 10.0),
    head_ms=np.full(5, 3.0), trip_ms=np.full(5, 1.0), item_bytes=1000.0, query_bytes=100_000,
    vector_bytes=1024,
)  # fmt: skip
STEADY = Assumptions(late_chance=0.0, draws=500)


def test_one_actor_without_late_calls_takes_the_sum_of_its_parts() -> None:
    """Else a part was forgotten, or counted twice."""
    one = simulate(2000, TIMES, STEADY, actors=1)
    assert one.p50_ms == one.p99_ms == pytest.approx(3 + (2 * 4 + 1) + (10 + 1))
    assert one.network_kb == pytest.approx((1024 + 12 * 201 + 100_000 + 200 * 32) / 1e3)


def test_machines_follow_from_bytes_and_late_calls_from_machines() -> None:
    """A hundred machines are late a hundred times as often as one: the tail is the point."""
    assumed = replace(STEADY, machine_gb=1.0, cores=4)
    assert simulate(10_000_000, TIMES, assumed).machines == 10
    assert simulate(10_000_000, TIMES, assumed).actors == 40
    late = replace(assumed, late_chance=0.01)
    few, many = (simulate(1000 * n, TIMES, late, actors=n) for n in (2, 200))
    assert few.p50_ms < few.p99_ms
    assert many.p50_ms > few.p50_ms  # one of two hundred is nearly always late
