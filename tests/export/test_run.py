"""From a run's directory to its bundle, calibrated and judged on the run's own dataset."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from hficma.artifacts.manifest import new_directory, read_manifest
from hficma.engine.bundle.bundle import Bundle
from hficma.export import export_run
from tests.model.factories import make_model


def test_a_run_becomes_a_bundle(tmp_path: Path) -> None:
    """Ranks would not be compared, or on other items than the run's test pairs."""
    model = make_model()
    run = tmp_path / "run"
    with new_directory(run, kind="run", made_by="test") as (building, facts):
        save_file(model.state_dict(), building / "best.safetensors")
        model.tokenizer.vocabulary.save(building / "vocabulary.json")
        facts.update(
            model=model.config.to_json(),
            dataset="sample:100:3",
            best={"file": "best.safetensors"},
        )
    out = export_run(
        run, tmp_path / "bundle", precisions=("int8",), runtimes=("onnxruntime",), queries=8
    )
    facts = read_manifest(out, kind="bundle").facts
    assert (facts["run"], facts["dataset"]) == ("run", "sample:100:3")
    assert facts["int8_noise"] >= 0
    ranks = json.loads((out / "parity.json").read_text())["ranks"]
    assert [(row["precision"], row["queries"]) for row in ranks] == [("fp32", 8), ("int8", 8)]
    assert ranks[0]["overlap"] == 1.0
    card = (out / "README.md").read_text()
    assert "top 10 kept" in card
    assert f"n = {ranks[0]['tests']} test pairs" in card
    assert 0 < ranks[0]["tests"] < 8, "validation pairs are asked too, and not quoted"
    assert Bundle.open(out).model_id == model.model_id
