"""How far 16 bits are from float32 is told for every model, kind of pair and form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hficma.benchmarks.kernels import hard_pairs, screening
from hficma.benchmarks.pages.speed_tables import screening as screening_table
from hficma.engine.native.library import SCREEN, kinds
from hficma.engine.retrieval.certificate import EPSILON, EPSILON_PAIRS, MARGIN
from hficma.engine.retrieval.screening import MEASUREMENTS

RESULTS = Path("benchmarks/results/screening-epyc-avx512-2-cores-2026-11-27.json")


def test_every_kind_is_measured_in_every_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind whose scores do not differ at all would not have been screened."""
    monkeypatch.setattr(screening, "PHOTOS", 2)
    monkeypatch.setattr(screening, "RECIPES", 3)
    models = list(hard_pairs.made_models(widths=(32,), published=None))
    rows = [row for name, weights in models[::2] for row in screening.hard_pairs(name, weights)]
    precisions = {"fp32", "fp16"} | ({"bf16"} if SCREEN in kinds() else set())
    assert {row["precision"] for row in rows} == precisions
    for row in rows:
        assert row["count"] == 6
        assert 0 <= row["from"] <= row["to"] <= 1
        if row["precision"] == "fp32":
            assert row["largest"] < 1e-5
        else:
            assert 0 < row["mean"] <= row["largest"] < 0.3
    report = screening.report(rows)
    assert sum(row["count"] for row in report["totals"]) == 6 * len(rows)
    assert screening_table(report)


def test_hard_tokens_are_what_they_are_called() -> None:
    """Tokens that are no unit rows could not come from a model."""
    random = torch.Generator().manual_seed(0)
    for kind in hard_pairs.KINDS:
        tokens, lengths = hard_pairs.made_tokens(kind, 5, 7, 16, random)
        valid = torch.arange(7) < lengths[:, None]
        torch.testing.assert_close(tokens.norm(dim=-1), valid.float())
        if kind == "opposite":
            assert tokens.sum(dim=1).abs().max() < 1e-6


def test_the_engine_counts_with_what_was_measured() -> None:
    """Constants in the source would be someone's word, were they not those of a result file."""
    report = json.loads(RESULTS.read_text())
    totals = {row["precision"]: row for row in report["totals"]}
    for precision, measured in MEASUREMENTS.items():
        total = totals[precision]
        assert measured.pairs == total["count"] > 1_000_000
        assert measured.roundoff == screening.ROUNDOFF[precision]
        assert total["scaled"] <= measured.largest < total["scaled"] + 0.1
    assert EPSILON_PAIRS == totals["fp32"]["count"] > 1_000_000
    assert MARGIN * totals["fp32"]["largest"] <= EPSILON
    real = screening.merged((row for row in report["rows"] if row["pairs"] == "real"), "precision")
    assert all(row["count"] >= 1_000_000 for row in real)
