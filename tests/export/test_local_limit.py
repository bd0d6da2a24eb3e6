"""A limit on S_local, from the export to the answers: another model, proved by fewer candidates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from hficma.artifacts.manifest import new_directory
from hficma.engine import Engine, build_index
from hficma.engine.bundle.bundle import Bundle
from hficma.errors import ArtifactError, InputError
from hficma.export import export_run
from tests.engine.datasets import NoiseDataset
from tests.model.factories import make_model

ITEMS = 24


def test_a_limited_bundle_ranks_and_proves_by_its_limit(
    hf_icma_bundle: Path, tmp_path: Path
) -> None:
    """A limit that only the certificate knew would prove ranks that S does not have."""
    model = make_model(sentence="gru", sentence_dim=7)  # with the weights of the fixture
    run = tmp_path / "run"
    with new_directory(run, kind="run", made_by="test") as (building, facts):
        save_file(model.state_dict(), building / "best.safetensors")
        model.tokenizer.vocabulary.save(building / "vocabulary.json")
        facts.update(model=model.config.to_json(), dataset="sample:100:3",
                     best={"file": "best.safetensors"})  # fmt: skip
    photo = NoiseDataset(1).photo(0)
    plain = build_index(hf_icma_bundle, NoiseDataset(ITEMS), tmp_path / "plain", threads=1)
    with Engine.open(plain, threads=1) as engine:
        everything = engine.search(image=photo, k=ITEMS).hits
        few = engine.search(image=photo, k=5, candidates=12)
    limit = float(np.median([hit.local_score for hit in everything]))

    bundle = export_run(
        run, tmp_path / "bundle", runtimes=("onnxruntime",), queries=0, local_limit=limit
    )
    weights = Bundle.open(bundle).score_weights
    assert weights.limit == limit
    limited = build_index(bundle, NoiseDataset(ITEMS), tmp_path / "limited", threads=1)
    with Engine.open(limited, threads=1) as engine:
        answer = engine.search(image=photo, k=ITEMS)
        proved = engine.search(image=photo, k=5, candidates=12)
    with pytest.raises(ArtifactError, match="model"):
        Engine.open(plain, bundle=bundle)

    totals = {hit.id: weights.total(hit.global_score, hit.local_score) for hit in everything}
    assert [hit.id for hit in answer.hits] == sorted(totals, key=totals.__getitem__, reverse=True)
    assert [hit.score for hit in answer.hits] == pytest.approx(sorted(totals.values())[::-1])
    assert any(hit.local_score > limit for hit in answer.hits), "S_local is told as it is"
    assert proved.certified > few.certified
    truth = [hit.id for hit in answer.hits[: proved.certified]]
    assert [hit.id for hit in proved.hits[: proved.certified]] == truth

    with pytest.raises(InputError, match=r"local limit 1\.5"):
        export_run(run, tmp_path / "none", local_limit=1.5)
    assert not (tmp_path / "none").exists()
