"""The load on a service is what it says: answers, refusals and batches, as the service counts."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from hficma.engine import build_index
from tests.engine.datasets import NoiseDataset
from tests.engine.factories import tiny_bundle

pytest.importorskip("fastapi", reason="the service needs the extra [serve]")

from hficma.benchmarks.serving.load import ServedIndex


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not on the path")
def test_a_service_under_load_is_measured(tmp_path: Path) -> None:
    """A row of zeros, or of errors that nobody counts, would pass for a good one."""
    dishes = NoiseDataset(12)
    index = build_index(tiny_bundle(tmp_path), dishes, tmp_path / "index")
    photos = []
    for dish in range(2):
        photos.append(tmp_path / f"{dish}.png")
        dishes.photo(dish).save(photos[-1])
    with ServedIndex(index, threads=1, folder=tmp_path, photos=photos) as service:
        few = service.under(2, 1)
        many = service.under(80, 1)
        assert service.peak_mb > 10
    assert few.throughput > 1
    assert 0 < few.p50 <= few.p99
    assert few.batch >= 1
    assert (few.refused, few.errors, many.errors) == (0, 0, 0)
    assert many.refused > 0
    assert math.isfinite(many.p99)
