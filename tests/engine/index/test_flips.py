"""Damaged indexes give the same answer or a line that says so; those of older versions too."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from hficma.engine import Engine, Filter
from hficma.errors import ArtifactError
from tests.engine.datasets import NoiseDataset
from tests.torture.flips import OLDER, Target, attack, make_targets

FLIPS = 200


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> list[Target]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFICMA_HOME", str(tmp_path_factory.mktemp("home")))
        return make_targets(tmp_path_factory.mktemp("targets"))


def test_no_damage_gives_another_answer(targets: list[Target], tmp_path: Path) -> None:
    """Twelve of sixteen aimed flips of vectors gave wrong answers that were called certified."""
    chance = random.Random(0)
    expected: dict[Path, object] = {}
    outcomes: Counter[str] = Counter()
    wrong = []
    for _ in range(FLIPS):
        outcome, description = attack(targets, tmp_path / "damaged", chance, expected)
        outcomes[outcome] += 1
        if outcome == "wrong":
            wrong.append(description)
    assert not wrong
    assert outcomes["refused"] > FLIPS / 2, "most damage was not looked at"


def test_an_index_of_an_older_version_answers_as_it_did(tmp_path: Path) -> None:
    """Made by the last version before checksums of blocks; its SHA-256 are compared."""
    index = shutil.copytree(OLDER / "index", tmp_path / "i")
    photo = NoiseDataset(4).photo(3)
    before = json.loads((OLDER / "answers.json").read_text())
    with Engine.open(index, bundle=OLDER / "bundle", runtime="onnxruntime", threads=1) as engine:
        answers = {
            "plain": engine.search(image=photo, k=4),
            "exact": engine.search(image=photo, k=8, exact=True),
            "soups": engine.search(
                image=photo, k=8, filter=Filter(categories=("soup",), without=("salt",))
            ),
        }
    for name, answer in answers.items():
        hits = before[name]["hits"]
        assert [(hit.id, hit.title) for hit in answer.hits] == [(id_, t) for id_, _, t in hits]
        assert [hit.score for hit in answer.hits] == pytest.approx([score for _, score, _ in hits])
        assert answer.certified == before[name]["certified"]
        assert answer.verified
        assert answer.to_json()["verified"] is True


@pytest.mark.parametrize("file", ["global", "query", "numbers", "lengths", "prefilter.faiss"])
def test_flips_in_an_older_index_are_refused(tmp_path: Path, file: str) -> None:
    index = shutil.copytree(OLDER / "index", tmp_path / "i")
    path = index / "shards" / "000000" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)
    with (
        pytest.raises(ArtifactError, match=rf"{file}: is not as it was written"),
        Engine.open(index, bundle=OLDER / "bundle", runtime="onnxruntime", threads=1) as engine,
    ):
        engine.search(image=NoiseDataset(1).photo(0), k=4)


def test_an_older_manifest_without_hashes_is_read_and_said_to_be_unverified(tmp_path: Path) -> None:
    """There is nothing to compare with: the answer must not say that anything was."""
    index = shutil.copytree(OLDER / "index", tmp_path / "i")
    record = json.loads((index / "manifest.json").read_text())
    record["files"] = {}
    (index / "manifest.json").write_text(json.dumps(record))
    with Engine.open(index, bundle=OLDER / "bundle", runtime="onnxruntime", threads=1) as engine:
        assert not engine.search(image=NoiseDataset(1).photo(0), k=4).verified
