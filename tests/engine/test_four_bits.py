"""Indexes of tokens in four bits, and of exact ones beside them, whatever is done to them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hficma.artifacts import manifest
from hficma.artifacts.manifest import read_manifest, write_manifest
from hficma.engine import Engine, IndexWriter, build_index, index_info, verify_index
from hficma.engine.files.checksums import digest_file
from hficma.engine.index.shard_facts import BLOCKS, FACTS
from hficma.errors import ArtifactError, InputError
from tests.engine.datasets import NoiseDataset

DATA = NoiseDataset(40)


@pytest.fixture(scope="module")
def both(hf_icma_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens in int4 and fp16, in three shards; never written to."""
    return build_index(
        hf_icma_bundle, DATA, tmp_path_factory.mktemp("four") / "i", shard_items=16, threads=1,
        side_precision="int4", exact_tokens=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def halves(hf_icma_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same items by their tokens in fp16."""
    return build_index(
        hf_icma_bundle, DATA, tmp_path_factory.mktemp("halves") / "i", threads=1, keep="tokens",
        side_precision="fp16",
    )  # fmt: skip


def test_exact_precision_answers_as_exact_tokens_do(both: Path, halves: Path) -> None:
    """Hits, scores and proofs are those of an index that keeps nothing else."""
    photo = NoiseDataset(1).photo(0)
    with Engine.open(both, threads=1) as engine, Engine.open(halves, threads=1) as fp16:
        answer = engine.search(image=photo, k=5, exact_precision=True, exact=True)
        expected = fp16.search(image=photo, k=5, exact=True)
        rough = engine.search(image=photo, k=5, candidates=40)
        few = engine.search(image=photo, k=5, candidates=5, exact_precision=True)
        [batched] = engine.search_many([photo], k=5, exact_precision=True)
    assert [(hit.id, hit.score) for hit in answer.hits] == [
        (hit.id, hit.score) for hit in expected.hits
    ]
    assert answer.certified == 5
    assert answer.stored_precision == "fp16"
    assert answer.to_json()["stored_precision"] == "fp16"
    # What was left behind has no exact score: it may not be proved away.
    assert [hit.id for hit in few.hits[: few.certified]] == [
        hit.id for hit in expected.hits[: few.certified]
    ]
    assert rough.certified == 5, "all were scored"
    assert rough.to_json()["stored_precision"] == "int4"
    assert "certified for the stored precision (int4)" in rough.proof
    assert [hit.id for hit in batched.hits] == [hit.id for hit in expected.hits]


def test_an_index_without_exact_tokens_says_so(halves: Path) -> None:
    """Its answers would silently be as rough as before."""
    with (
        Engine.open(halves, threads=1) as engine,
        pytest.raises(InputError, match="keeps no exact tokens"),
    ):
        engine.search(image=NoiseDataset(1).photo(0), exact_precision=True)


def test_changes_carry_both_kinds_of_tokens_along(both: Path, tmp_path: Path) -> None:
    """Rows of one kind behind the items of another would score recipes by others' ingredients."""
    path = Path(shutil.copytree(both, tmp_path / "i"))
    manifest = read_manifest(path, kind="index")
    manifest.facts["bundle"] = str((both / manifest.facts["bundle"]).resolve())
    write_manifest(path, manifest)
    with IndexWriter(path) as writer:
        writer.add(NoiseDataset(3, first=40), threads=1)
        writer.remove([f"r{i}" for i in range(5, 20)])
        writer.compact()
    info = index_info(path)
    assert (info["side_precision"], info["exact_tokens"], info["items"]) == ("int4", True, 28)
    assert not verify_index(path).problems
    photo = NoiseDataset(1).photo(0)
    with Engine.open(path, threads=1) as engine, Engine.open(both, threads=1) as before:
        for exact_precision in (False, True):
            old = before.search(image=photo, k=40, exact_precision=exact_precision)
            new = engine.search(image=photo, k=40, exact_precision=exact_precision)
            scores = {hit.id: hit.score for hit in old.hits}
            for hit in new.hits:
                assert hit.score == scores.get(hit.id, hit.score)


def test_a_program_that_knows_no_four_bits_refuses_in_one_line(
    both: Path, halves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would otherwise read two numbers as one; every other index stays open to it."""
    monkeypatch.setattr(manifest, "NEWEST_FORMAT", 1)
    with pytest.raises(ArtifactError, match="has format 2, this version reads 1"):
        index_info(both)
    assert index_info(halves)["side_precision"] == "fp16"


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf])
def test_scales_that_are_not_finite_give_no_answer(
    both: Path, tmp_path: Path, scale: float
) -> None:
    """A hostile index has the right checksums; a NaN sorts anywhere."""
    path = Path(shutil.copytree(both, tmp_path / "i"))
    shard = path / "shards" / "000000"
    record = json.loads((shard / FACTS).read_text())
    scales = np.fromfile(shard / "tokens.scale", "<f2")
    scales[:] = scale
    scales.tofile(shard / "tokens.scale")
    sums = [digest_file(shard / name).sums for name in sorted(record["sizes"])]
    (shard / BLOCKS).write_bytes(np.concatenate(sums).tobytes())
    for name in ("tokens.scale", BLOCKS):
        record["files"][name] = hashlib.sha256((shard / name).read_bytes()).hexdigest()
    (shard / FACTS).write_text(json.dumps(record))
    listed = read_manifest(path, kind="index")
    for name in ("tokens.scale", BLOCKS, FACTS):
        file = f"shards/000000/{name}"
        listed.files[file] = hashlib.sha256((path / file).read_bytes()).hexdigest()
    listed.facts["bundle"] = str((both / listed.facts["bundle"]).resolve())
    write_manifest(path, listed)
    with Engine.open(path, threads=1) as engine, pytest.raises(ArtifactError, match="not finite"):
        engine.search(image=NoiseDataset(1).photo(0), k=40)


def test_a_model_whose_tokens_are_negative_is_refused(
    hf_icma_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four bits hold no signs: its tokens would be cut to zero without a word."""
    from hficma.engine.writing import encoding_pipeline

    encode = encoding_pipeline.encode

    def negated(*arguments: object) -> object:
        items = encode(*arguments)
        items.encodings.arrays["tokens"] *= -1
        return items

    monkeypatch.setattr(encoding_pipeline, "encode", negated)
    with pytest.raises(InputError, match="int4 cannot hold"):
        build_index(hf_icma_bundle, DATA, tmp_path / "i", side_precision="int4", threads=1)
