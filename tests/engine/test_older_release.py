"""What an older release wrote opens, and answers as it did then."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from hficma.engine import Engine, Filter
from tests.engine.datasets import NoiseDataset

OLDER = Path(__file__).parents[1] / "fixtures" / "older"

SEARCHES: dict[str, dict[str, object]] = {
    "plain": {"k": 4},
    "exact": {"k": 8, "exact": True},
    "soups": {"k": 8, "filter": Filter(categories=("soup",), without=("salt",))},
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_bundle_and_an_index_of_an_older_release_answer_as_they_did(
    name: str, tmp_path: Path
) -> None:
    """Formats are promises: whoever indexed a million recipes will not do it again."""
    older = shutil.copytree(OLDER, tmp_path / "older")
    expected = json.loads((older / "answers.json").read_text(encoding="utf-8"))[name]
    with Engine.open(older / "index", bundle=older / "bundle", runtime="onnxruntime") as engine:
        answer = engine.search(image=NoiseDataset(4).photo(3), **SEARCHES[name])
    assert answer.certified == expected["certified"]
    assert len(answer.hits) == len(expected["hits"])
    for hit, (identity, score, title) in zip(answer.hits, expected["hits"], strict=True):
        assert (hit.id, hit.title) == (identity, title)
        assert math.isclose(hit.score, score, rel_tol=1e-6)
