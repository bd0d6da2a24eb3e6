"""Prefilters find the best items, respect masks, and are wrong by no more than they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hficma.artifacts.file_memory import FileMemory
from hficma.engine.files.checksums import CheckedFile
from hficma.engine.files.file_bytes import open_bytes
from hficma.engine.index.faiss_factory import check_factory, default_factory
from hficma.engine.index.prefilter import FILE, Prefilter, build_prefilter
from hficma.errors import InputError

BOUNDED = ("Flat", "SQfp16", "SQ8", "SQ4")
SKIPPING = ("IVF,SQ8", "IVF4,Flat", "HNSW", "HNSW8", "PCA6,IVF4,SQ8", "PQ4x4fs", "SQ4,RFlat")


def make_vectors(count: int = 630, width: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32) * 3


def opened(vectors: np.ndarray, spec: str, folder: Path) -> Prefilter:
    facts = build_prefilter(vectors, spec, folder)
    file = None
    if facts.factory != "Flat":
        path = folder / FILE
        file = CheckedFile(open_bytes(path, path.stat().st_size), None, None, FileMemory("index"))
    return Prefilter(facts, vectors, file)


@pytest.mark.parametrize("spec", BOUNDED)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, 1.0, 300.0]))
def test_scores_of_bounded_prefilters_are_within_their_error(
    tmp_path: Path, spec: str, seed: int, scale: float
) -> None:
    """Certificates add this error to the upper bound: were it too small, they could lie."""
    vectors = make_vectors(50, seed=seed) * np.float32(scale)
    query = make_vectors(1, seed=seed + 1)
    prefilter = opened(vectors, spec, tmp_path)
    candidates = prefilter.search(query, 50, None)[0]
    exact = (vectors[candidates.positions].astype(np.float64) * query[0]).sum(axis=1)
    assert len(candidates.positions) == 50
    assert np.abs(candidates.scores - exact).max() <= prefilter.facts.score_error(query[0])


@pytest.mark.parametrize("spec", BOUNDED + SKIPPING)
@pytest.mark.parametrize("queries", [1, 3])
def test_masked_items_are_never_found_and_none_is_missing(
    tmp_path: Path, spec: str, queries: int
) -> None:
    """A filter must leave k answers where k exist, and never one it forbids."""
    vectors = make_vectors()
    prefilter = opened(vectors, spec, tmp_path)
    allowed = np.zeros(len(vectors), dtype=bool)
    allowed[np.random.default_rng(1).choice(len(vectors), 20, replace=False)] = True
    for candidates in prefilter.search(make_vectors(queries, seed=2), 30, allowed):
        assert sorted(candidates.positions) == sorted(np.flatnonzero(allowed))
        assert (np.diff(candidates.scores) <= 0).all()
    assert len(prefilter.search(vectors[:1], 5, np.zeros(len(vectors), bool))[0].positions) == 0


@pytest.mark.parametrize(
    ("spec", "mask_size", "message"),
    [
        ("PQ4x4fs", 20, "takes no filter"),
        ("SQ4,RFlat", 20, "takes no filter"),
        ("IVF4,Flat", 20, None),
        ("SQ8", 20, None),
    ],
)
def test_a_scan_in_the_place_of_faiss_is_logged_once(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    spec: str,
    mask_size: int,
    message: str | None,
) -> None:
    """Whoever chose a kind for its speed must see that a filter makes it scan every vector."""
    vectors = make_vectors()
    prefilter = opened(vectors, spec, tmp_path)
    mask = np.arange(len(vectors)) < mask_size
    with caplog.at_level("INFO", logger="hficma"):
        prefilter.search(vectors[:1], 5, None)
        assert not caplog.records
        for _ in range(3):
            prefilter.search(vectors[:2], 5, mask)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == (message is not None)
    assert all(f"{FILE}: a FAISS index {spec} {message}" in line for line in lines)


def test_a_scan_for_items_in_lists_not_looked_into_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The few items that pass a filter lie in other lists: fewer would come back than exist."""
    vectors = make_vectors()
    prefilter = opened(vectors, "IVF16,Flat", tmp_path)
    mask = np.zeros(len(vectors), dtype=bool)
    mask[np.argsort(vectors @ vectors[0])[:5]] = True  # in the lists that are looked into last
    with caplog.at_level("INFO", logger="hficma"):
        candidates = prefilter.search(vectors[:1], 5, mask)[0]
    assert sorted(candidates.positions) == sorted(np.flatnonzero(mask))
    assert ["reached fewer items" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("spec", ["Flat", "SQfp16"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_best_items_come_first(tmp_path: Path, spec: str, masked: bool) -> None:
    """The prefilter decides which items are re-ranked at all."""
    vectors = make_vectors()
    allowed = np.arange(len(vectors)) % 3 > 0 if masked else None
    queries = make_vectors(4, seed=5)
    answers = opened(vectors, spec, tmp_path).search(queries, 10, allowed)
    for query, candidates in zip(queries, answers, strict=True):
        scores = vectors @ query
        if allowed is not None:
            scores[~allowed] = -np.inf
        assert set(candidates.positions[:8]) <= set(np.argsort(-scores)[:10])


@pytest.mark.parametrize("spec", SKIPPING)
def test_prefilters_that_skip_items_have_no_bound(tmp_path: Path, spec: str) -> None:
    """They must never certify."""
    prefilter = opened(make_vectors(), spec, tmp_path)
    assert not prefilter.facts.bounded
    assert prefilter.facts.score_error(make_vectors(1)[0]) == np.inf


def test_exact_scores_are_the_stored_vectors(tmp_path: Path) -> None:
    """`--exact` visits items in this order."""
    vectors = make_vectors()
    prefilter = opened(vectors, "IVF,SQ8", tmp_path)
    query = make_vectors(1, seed=9)[0]
    exact = vectors.astype(np.float64) @ query.astype(np.float64)
    assert np.abs(prefilter.scores(query) - exact).max() <= prefilter.rounding_error(query)


def test_an_unknown_prefilter_is_named() -> None:
    """FAISS's own message is a page of C++."""
    with pytest.raises(InputError, match="SQ99"):
        check_factory("SQ99", 8)


def test_defaults_can_certify(tmp_path: Path) -> None:
    """Nobody should lose certificates without asking for it."""
    for count in (10, 100_000, 10_000_000):
        facts = build_prefilter(make_vectors(20), default_factory(count), tmp_path)
        assert facts.bounded


@pytest.mark.parametrize(
    ("spec", "count", "kind"),
    [
        ("IVF16,Flat", 3, "Flat"),
        ("IVF4096,SQ8", 300, "Flat"),
        ("PQ4", 200, "Flat"),
        ("PQ4x4fs", 300, "Flat"),
        ("OPQ4,PQ4", 200, "Flat"),  # FAISS writes outside its memory
        ("PCA6,Flat", 7, "Flat"),
        ("IVF,SQ8", 1, "Flat"),
        ("HNSW32_PQ4", 100, "Flat"),
        ("RQ2x4", 100, "Flat"),
        ("NSG8", 50, "Flat"),
        ("SQ8", 1, "SQ8"),
        ("HNSW", 1, "HNSW"),
        ("IVF16,Flat", 700, "IVF16,Flat"),
        ("IVF,SQ8", 100, "IVF,SQ8"),
    ],
)
def test_items_too_few_to_train_take_another_kind(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    spec: str,
    count: int,
    kind: str,
) -> None:
    """FAISS ended the command with a page of C++ after everything was encoded, or warned of each
    clustering on stderr."""
    vectors = make_vectors(count)
    with caplog.at_level("WARNING", logger="hficma"):
        prefilter = opened(vectors, spec, tmp_path)
    assert prefilter.facts.factory == kind
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (kind != spec)
    assert all(f"prefilter {spec}: {count} item" in line and kind in line for line in messages)
    assert len(prefilter.search(vectors[:1], 5, None)[0].positions) == min(5, count)
    assert capfd.readouterr().err == ""


def test_large_shards_are_trained_on_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A scan of a large shard would be slow, so few points a centroid must do there."""
    monkeypatch.setattr("hficma.engine.index.faiss_factory.FLAT_LIMIT", 50)
    assert opened(make_vectors(60), "IVF16,Flat", tmp_path).facts.factory == "IVF16,Flat"
    assert opened(make_vectors(60), "PQ4x4", tmp_path).facts.factory == "PQ4x4"
    assert opened(make_vectors(60), "IVF64,Flat", tmp_path).facts.factory == "SQfp16"
    assert capfd.readouterr().err == ""


def test_a_width_that_does_not_divide_is_said_before_anything_is_encoded() -> None:
    """With FAISS's own reason, in one line."""
    with pytest.raises(InputError, match=r"PQ16.*vectors of 20 numbers.*multiple") as caught:
        check_factory("PQ16", 20)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="numbers its items itself"):
        check_factory("IDMap,Flat", 8)
