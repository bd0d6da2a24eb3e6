"""Answers carry how sure they are where the bundle says what scores mean, and nothing elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hficma.artifacts.manifest import read_manifest, sha256, write_manifest
from hficma.engine import Engine, Filter, build_index
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.index.index_facts import ItemKind
from hficma.errors import ArtifactError
from hficma.sureness import SURENESS_FILE, ScoreCalibration, Stretch, SurenessFacts, sureness
from tests.engine.datasets import NoiseDataset

ITEMS = NoiseDataset(30)
FACTS = SurenessFacts(
    image=ScoreCalibration(slope=5.0, offset=-1.0, spread=0.2, crowd=100.0, sure=0.6),
    recipe=ScoreCalibration(
        slope=7.0, offset=0.5, spread=0.1, crowd=50.0, first=Stretch(slope=0.9, crowding=0.1)
    ),
    pairs=1000,
    folds=5,
)


def calibrated(bundle: Path, copy: Path, content: bytes | None = None) -> Path:
    """A copy of a bundle that says what its scores mean."""
    shutil.copytree(bundle, copy)
    (copy / SURENESS_FILE).write_bytes(content or json.dumps(FACTS.to_json()).encode())
    manifest = read_manifest(copy, kind="bundle")
    files = {**manifest.files, SURENESS_FILE: sha256(copy / SURENESS_FILE)}
    write_manifest(copy, replace(manifest, files=files))
    return copy


@pytest.mark.parametrize("kind", ["hf_icma_bundle", "adamine_bundle"])
@pytest.mark.parametrize("of", ["recipes", "images"])
def test_answers_are_as_sure_as_their_scores_say(
    of: ItemKind, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Of the right direction, over the pool that the filter leaves, whatever k is."""
    bundle = calibrated(request.getfixturevalue(kind), tmp_path / "bundle")
    index = build_index(bundle, ITEMS, tmp_path / "index", of=of)
    query: dict[str, Any] = (
        {"image": ITEMS.photo(3)} if of == "recipes" else {"recipe": ITEMS.recipe(3)}
    )
    calibration = FACTS.of("image" if of == "recipes" else "recipe")
    with Engine.open(index, runtime="onnxruntime") as engine:
        for filter_ in (None, Filter(categories=("cake",))):
            whole = engine.search(**query, k=30, filter=filter_)
            scores = np.array([hit.score for hit in whole.hits])
            assert len(scores) == whole.searched
            assert whole.sureness == sureness(scores, whole.searched, calibration)
            assert engine.search(**query, k=1, filter=filter_).sureness == whole.sureness
        assert whole.searched == 15
        few = engine.search(**query, k=1, candidates=10, filter=None)
        assert few.scored == 10
        assert few.sureness is not None
        nothing = engine.search(**query, filter=Filter(categories=("no such dish",)))
        assert nothing.sureness is None
        assert whole.to_json()["sureness"] == whole.sureness.to_json()
        assert whole.sureness.text in str(whole)
        assert whole.sureness.word in whole._repr_html_()


def test_a_bundle_that_says_nothing_answers_as_before(hf_icma_bundle: Path, tmp_path: Path) -> None:
    """Bundles of older releases have no such file, and scripts read their answers."""
    index = build_index(hf_icma_bundle, ITEMS, tmp_path / "index")
    with Engine.open(index, runtime="onnxruntime") as engine:
        answer = engine.search(image=ITEMS.photo(0))
    assert answer.sureness is None
    assert "sureness" not in answer.to_json()
    assert answer.lines == (answer.summary,)


def _changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    record = FACTS.to_json()
    change(record)
    return json.dumps(record).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        _changed(lambda record: record.pop("image")),
        _changed(lambda record: record.update(format=2)),
        _changed(lambda record: record["image"].update(slope=0.0)),
        _changed(lambda record: record["image"].update(slope=1e300)),
        _changed(lambda record: record["image"].update(crowd=-1.0)),
        _changed(lambda record: record["recipe"]["first"].update(crowding=-0.1)),
        _changed(lambda record: record["recipe"].update(offset="1")),
        b"[" * 100_000,
    ],
)
def test_damaged_facts_are_refused(hf_icma_bundle: Path, tmp_path: Path, content: bytes) -> None:
    """A slope of 0 or infinity would make every answer as sure as any other, or no number."""
    bundle = calibrated(hf_icma_bundle, tmp_path / "bundle", content)
    with pytest.raises(ArtifactError, match="damaged"):
        _ = Bundle.open(bundle).sureness


def test_facts_are_read_as_they_were_written(hf_icma_bundle: Path, tmp_path: Path) -> None:
    """A field that reading forgets would fall back to a value that nothing fitted."""
    assert Bundle.open(calibrated(hf_icma_bundle, tmp_path / "bundle")).sureness == FACTS
