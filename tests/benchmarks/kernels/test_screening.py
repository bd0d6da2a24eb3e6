"""How far 16 bits are from float32 is told for every kind of pair."""

from __future__ import annotations

import pytest

from hficma.benchmarks.kernels import screening


def test_every_kind_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind whose scores do not differ at all would not have been screened."""
    for name, value in (("WIDTH", 32), ("HEADS", 4), ("REGIONS", 6), ("PHOTOS", 5)):
        monkeypatch.setattr(screening, name, value)
    rows = screening.measure(None, None, 0)
    assert len(rows) == len(screening.KINDS)
    for row in rows:
        assert row["count"] == 5 * screening.RECIPES
        assert 0 < row["mean"] <= row["largest"] < 0.1
        assert 0 <= row["from"] < row["to"] <= 1
