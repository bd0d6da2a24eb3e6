"""Encoders' costs stand beside the R@10 of the method that they are part of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hficma.benchmarks.kernels.encoders import main
from hficma.benchmarks.pages.quality_tables import encoders
from hficma.errors import InputError
from tests.engine.factories import tiny_bundle


def test_costs_and_recall_of_each_encoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A graph left out, or the recall of another method beside it."""
    bundle = tiny_bundle(tmp_path, sentence="gru", sentence_dim=7)
    quality, out = tmp_path / "quality.json", tmp_path / "encoders.json"
    figures = {"S": {"image_to_recipe": {"R@10": {"value": 61.5}}}}
    quality.write_text(json.dumps({"methods": [{"name": "ours, tiny", **figures}]}))
    main([f"ours, tiny={bundle}", str(bundle)], quality, 1, out)
    report = json.loads(out.read_text())
    assert [(row["name"], row["encoder"], row["recall"]) for row in report["rows"]] == [
        ("ours, tiny", "tiny", 61.5),
        ("ours, tiny", "words (gru)", 61.5),
        ("hf-icma-0", "tiny", None),
        ("hf-icma-0", "words (gru)", None),
    ]
    row = report["rows"][0]
    assert row["mb"] == pytest.approx((bundle / "onnx/image.fp32.onnx").stat().st_size / 1e6)
    assert set(row["milliseconds"]) == {"1 x 1", "1 x 16", "2 x 1", "2 x 16"}
    assert any("| 61.5 |" in line for line in encoders(report))
    assert "61.5" in capsys.readouterr().out
    with pytest.raises(InputError, match="is no report"):
        main([f"a={bundle}"], out, 1, None)
