"""Searching on a GPU answers as searching on the processors does.

Every line but the name of the device runs here on the device `cpu` of torch; what is marked `gpu`
repeats the same comparisons on `cuda`.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hficma.engine import Answer, Bundle, Engine, Failure, Filter, IndexWriter, build_index
from hficma.engine.gpu.copying import copy_to_device
from hficma.engine.gpu.gpu_index import GpuIndex, cuda_device, index_bytes
from hficma.engine.gpu.gpu_scorer import GpuScorer
from hficma.engine.gpu.prefilter import GpuPrefilter
from hficma.engine.index.index import Index
from hficma.engine.index.index_facts import ItemKind
from hficma.engine.index.item_encoding import STORED_FORMS, EncodingPrecision, Level
from hficma.engine.index.prefilter import Prefilter, PrefilterFacts, build_prefilter
from hficma.engine.retrieval.search import Searcher
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.errors import InputError
from tests.engine.datasets import NoiseDataset
from tests.engine.gpu.devices import DEVICES

DATA = NoiseDataset(30)
EVERYTHING = 1 << 40


def opened(path: Path, device: str, memory: int = EVERYTHING) -> Engine:
    """An engine whose index is on a device; queries are encoded on the processors."""
    index = Index.open(path)
    bundle = Bundle.open(index.facts.find_bundle(path), ExecutionOptions(threads=1))
    gpu_index = GpuIndex(index, bundle.facts.heads, torch.device(device), memory)
    pool = ThreadPoolExecutor(2)
    searcher = Searcher(index, bundle, GpuScorer(gpu_index, bundle), pool)
    return Engine(index, bundle, searcher, pool)


def on_device(index: Index, device: str, memory: int = EVERYTHING) -> GpuIndex:
    """An index on a device, without an engine."""
    with Bundle.open(index.facts.find_bundle(index.path)) as bundle:
        return GpuIndex(index, bundle.facts.heads, torch.device(device), memory)


def ask(engine: Engine, query: int, **options: object) -> Answer:
    if engine.query_role == "recipe":
        return engine.search(recipe=DATA.recipe(query), **options)
    return engine.search(image=DATA.photo(query), **options)


def assert_same(answer: Answer | Failure, expected: Answer | Failure) -> None:
    """Items and scores agree; items whose scores differ by rounding may stand in either order."""
    assert isinstance(answer, Answer)
    assert isinstance(expected, Answer)
    assert answer.searched == expected.searched
    scores = [[hit.score for hit in answer.hits] for answer in (answer, expected)]
    np.testing.assert_allclose(scores[0], scores[1], atol=3e-6)
    assert [h.global_score for h in answer.hits] == pytest.approx(
        [h.global_score for h in expected.hits], abs=3e-6
    )
    known = {hit.id: hit.score for hit in expected.hits}
    for hit in answer.hits:
        # An item that the other answer lacks stands at its end, tied with what stands there.
        assert hit.score == pytest.approx(known.get(hit.id, scores[1][-1]), abs=3e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["hf_icma_bundle", "adamine_bundle"])
@pytest.mark.parametrize("of", ["recipes", "images"])
@pytest.mark.parametrize("memory", [EVERYTHING, 0])
def test_answers_and_certificates_are_the_host_s(
    kind: str,
    of: ItemKind,
    memory: int,
    device: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    """A faster answer that differs is a wrong one; k may be larger than the index."""
    bundle: Path = request.getfixturevalue(kind)
    path = build_index(bundle, DATA, tmp_path / "index", of=of, shard_items=11)
    with Engine.open(path, threads=1) as host, opened(path, device, memory) as there:
        for options in (
            {"k": 5, "candidates": 8},
            {"k": 5, "candidates": 3, "exact": True},
            {"k": 99, "exact": True},
            {"k": 4, "candidates": 4, "filter": Filter(categories=("soup",))},
            {"k": 9, "filter": Filter(having=("unicorn",))},
        ):
            answer, expected = ask(there, 3, **options), ask(host, 3, **options)
            assert_same(answer, expected)
            assert answer.certified == expected.certified
            if options.get("exact"):
                assert answer.certified == len(answer.hits)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("keep", "side_precision"), STORED_FORMS)
@pytest.mark.parametrize("memory", [EVERYTHING, 0])
def test_every_level_and_precision_is_scored_as_on_the_host(
    hf_icma_bundle: Path, tmp_path: Path, keep: Level, side_precision: EncodingPrecision,
    device: str, memory: int,
) -> None:  # fmt: skip
    """Rows widened on the device must be the rows that the host widens."""
    path = build_index(
        hf_icma_bundle, DATA, tmp_path / "i", keep=keep, side_precision=side_precision
    )
    with Engine.open(path, threads=1) as host, opened(path, device, memory) as there:
        assert_same(ask(there, 1, k=30), ask(host, 1, k=30))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("of", ["recipes", "images"])
def test_a_batch_on_a_device_answers_as_one_at_a_time(
    hf_icma_bundle: Path, tmp_path: Path, of: ItemKind, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queries are scored together there, in groups and tiles whose borders must not show."""
    monkeypatch.setattr("hficma.engine.gpu.local_scores.PAIRS", 7)
    monkeypatch.setattr("hficma.engine.gpu.gpu_scorer.REFINED", 3)
    path = build_index(hf_icma_bundle, DATA, tmp_path / "i", of=of, shard_items=7)
    queries = [DATA.photo(i) if of == "recipes" else DATA.recipe(i) for i in range(5)]
    with opened(path, device) as there:
        for candidates in (4, 20):
            answers = there.search_many(queries, k=6, candidates=candidates, exact=True)
            for number, answer in enumerate(answers):
                assert_same(answer, ask(there, number, k=6, candidates=candidates, exact=True))
                assert isinstance(answer, Answer)
                assert answer.certified == 6


@pytest.mark.parametrize("device", DEVICES)
def test_shards_may_lie_on_both_sides(hf_icma_bundle: Path, tmp_path: Path, device: str) -> None:
    """An index larger than the GPU's memory is searched all the same."""
    path = build_index(hf_icma_bundle, DATA, tmp_path / "i", shard_items=8, prefilter="SQ8")
    shards = Index.open(path).shards
    vectors = sum(shard.vectors.nbytes for shard in shards)
    assert shards[0].encodings is not None
    encodings = sum(array.nbytes for array in shards[0].encodings.arrays.values())
    with Engine.open(path, threads=1) as host:
        expected = ask(host, 2, k=30, candidates=5, exact=True)
    for memory in (0, vectors // 2, vectors, vectors + encodings, EVERYTHING):
        with opened(path, device, memory) as there:
            assert_same(ask(there, 2, k=30, candidates=5, exact=True), expected)
    index = Index.open(path)
    assert on_device(index, device, vectors + encodings).resident <= vectors + encodings
    assert all(isinstance(shard.prefilter, GpuPrefilter) for shard in index.shards)


@pytest.mark.parametrize("device", DEVICES)
def test_what_does_not_fit_a_gpu_is_logged(
    hf_icma_bundle: Path, tmp_path: Path, device: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A search that quietly runs on the processors looks like a slow GPU."""
    path = build_index(hf_icma_bundle, DATA, tmp_path / "i", shard_items=16)
    with caplog.at_level(logging.INFO, "hficma"), opened(path, device, 0) as there:
        ask(there, 0, k=3)
    lines = [record.getMessage() for record in caplog.records]
    for shard in ("000000", "000001"):
        assert any(
            shard in line and "vectors do not fit" in line and "searched on the processors" in line
            for line in lines
        )
    assert any("encodings of 30 of 30 items do not fit" in line for line in lines)
    caplog.clear()
    with caplog.at_level(logging.INFO, "hficma"), opened(path, device) as there:
        ask(there, 0, k=3)
    assert "do not fit" not in caplog.text


@pytest.mark.parametrize("device", DEVICES)
def test_equal_items_stand_in_their_order(
    hf_icma_bundle: Path, tmp_path: Path, device: str
) -> None:
    """Ties are broken by position, so that two machines give one answer."""

    class Same(NoiseDataset):
        def recipe(self, index: int) -> object:
            return replace(super().recipe(0), id=f"r{index}")

    path = build_index(hf_icma_bundle, Same(12), tmp_path / "i", shard_items=5)
    with opened(path, device) as there:
        answer = ask(there, 0, k=12)
    assert [hit.id for hit in answer.hits] == [f"r{i}" for i in range(12)]


@pytest.mark.parametrize("device", DEVICES)
def test_removed_items_are_not_found(hf_icma_bundle: Path, tmp_path: Path, device: str) -> None:
    """Masks must reach the device."""
    path = build_index(hf_icma_bundle, DATA, tmp_path / "i", shard_items=9)
    with IndexWriter(path) as writer:
        writer.remove(["r3", "r20"])
    with opened(path, device) as there:
        answer = {hit.id for hit in ask(there, 0, k=99).hits}
    assert answer == {f"r{i}" for i in range(30)} - {"r3", "r20"}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("prefilter", ["IVF,SQ8", "HNSW", "SQ8"])
def test_the_scan_certifies_what_the_kind_could_not(
    hf_icma_bundle: Path, tmp_path: Path, prefilter: str, device: str
) -> None:
    """On a GPU every kind is searched by its exact vectors."""
    path = build_index(hf_icma_bundle, DATA, tmp_path / "i", prefilter=prefilter)
    index = Index.open(path)
    on_device(index, device)
    facts = index.shards[0].prefilter.facts
    assert facts.bounded
    assert facts.error_norm == facts.error_entry == 0.0


@pytest.mark.parametrize("device", DEVICES)
def test_a_shard_on_the_device_is_not_searched_on_the_processors(
    hf_icma_bundle: Path, tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answers would come, only later, and nothing would say so."""
    path = build_index(hf_icma_bundle, DATA, tmp_path / "i", prefilter="SQ8")
    index = Index.open(path)
    on_device(index, device)
    for name in ("search", "scores"):
        monkeypatch.delattr(Prefilter, name)
    query = np.ones(index.shards[0].vectors.shape[1], np.float32)
    with ThreadPoolExecutor(1) as pool:
        masks = index.filter_masks(None)
        batch = index.first_candidates(query[None], 5, masks, pool)[0]
    rest = next(index.remaining_candidates(query, batch.items, 30, masks))
    assert sorted([*batch.items, *rest.items]) == list(range(30))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_scores_on_a_gpu_are_within_their_error(
    tmp_path: Path, device: str, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """δ counts on float32: with TF32 these would be off by a thousand times as much."""
    monkeypatch.setattr("hficma.engine.gpu.prefilter.BLOCK", 64)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 512)).astype(np.float32) * np.float32(scale)
    queries = rng.normal(size=(3, 512)).astype(np.float32)
    torch.set_float32_matmul_precision("highest")
    prefilter = device_prefilter(vectors, tmp_path, device)
    exact = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    for query, expected, answer in zip(
        queries, exact, prefilter.search(queries, 40, None), strict=True
    ):
        error = prefilter.facts.score_error(query)
        assert np.abs(answer.scores - expected[answer.positions]).max() <= error
        assert (np.diff(answer.scores) <= 0).all()
        left = np.setdiff1d(np.arange(300), answer.positions)
        assert expected[left].max() <= answer.scores[-1] + error
        assert np.abs(prefilter.scores(query) - expected).max() <= prefilter.rounding_error(query)


def device_prefilter(vectors: np.ndarray, folder: Path, device: str) -> GpuPrefilter:
    """As for a shard of these vectors."""

    class Bare:
        def __init__(self, facts: PrefilterFacts) -> None:
            self.facts = facts
            self.prefilter, self.vectors, self.folder = self, vectors, folder

    bare = Bare(build_prefilter(vectors, "Flat", folder))
    return GpuPrefilter(bare, copy_to_device(vectors, torch.device(device)))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_copies_in_pieces_are_whole(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last piece is shorter than the others."""
    monkeypatch.setattr("hficma.engine.gpu.copying.COPY_BYTES", 100)
    array = np.arange(7 * 11).reshape(11, 7).astype(dtype)
    np.testing.assert_array_equal(copy_to_device(array, torch.device("cpu")).numpy(), array)
    assert copy_to_device(array[:0], torch.device("cpu")).shape == (0, 7)


def test_devices_that_are_not_there_are_named() -> None:
    """Falling back to the processors unasked would hide a broken machine."""
    for name in ("cuda:99", "tpu", "meta"):
        with pytest.raises(InputError, match=name):
            cuda_device(name)
    with pytest.raises(InputError, match="GPU memory -1 GiB"):
        index_bytes(torch.device("cpu"), -1.0)
    assert index_bytes(torch.device("cpu"), 0.5) == 2**29


def test_a_gpu_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch refuses to work on a plain `cuda`, and `hficma bench gpu` would measure nothing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert cuda_device("cuda") == torch.device("cuda", 0)
    assert cuda_device("cuda:1") == torch.device("cuda", 1)


def test_no_torch_is_told_in_one_line() -> None:
    """What to install, where a GPU is to be searched on without torch."""
    program = """
import sys
sys.modules["torch"] = None
from hficma.errors import MissingDependencyError
try:
    import hficma.engine.gpu.gpu_index
except MissingDependencyError as error:
    print(error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "pip install 'hficma[gpu]'" in ended.stdout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_the_whole_engine_on_cuda_answers_as_on_the_processors(
    hf_icma_bundle: Path, tmp_path: Path
) -> None:
    """Branches included: `Engine.open` with a device, as `hficma search --device cuda` does."""
    path = build_index(hf_icma_bundle, DATA, tmp_path / "i", shard_items=11)
    with Engine.open(path, threads=1) as host, Engine.open(path, device="cuda") as there:
        for query in range(4):
            assert_same(ask(there, query, k=8, exact=True), ask(host, query, k=8, exact=True))
