"""Queries that stay on a GPU are those that the processors compute, and batches of them overlap.

Everything but pinned memory and recordings runs here on torch's device `cpu`.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from hficma.engine import Answer, Bundle, Engine, Failure, build_index
from hficma.engine.encoder import EncodedQuery, ModelInput, encode_queries
from hficma.engine.gpu.gpu_index import GpuIndex
from hficma.engine.gpu.gpu_queries import GpuQueries
from hficma.engine.gpu.gpu_scorer import GpuScorer
from hficma.engine.gpu.query_pipeline import QueryPipeline
from hficma.engine.index.index import Index
from hficma.engine.index.index_facts import ItemKind
from hficma.engine.index.item_encoding import Role
from hficma.engine.retrieval.scoring import CpuScorer, Scorer
from hficma.engine.retrieval.search import Searcher
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.errors import ArtifactError, InputError
from hficma.images.crops import crops
from tests.engine.datasets import NoiseDataset
from tests.engine.gpu.devices import DEVICES

DATA = NoiseDataset(12)


def queries(bundle: Bundle, role: Role, views: int = 1) -> list[ModelInput]:
    if role == "recipe":
        return [bundle.tokenizer.query(DATA.recipe(number)) for number in range(5)]
    pixels = [crops(DATA.photo(number), bundle.image_input, views) for number in range(5)]
    return pixels if views > 1 else [one[0] for one in pixels]


def assert_same(actual: EncodedQuery, expected: EncodedQuery) -> None:
    np.testing.assert_allclose(actual.vector, expected.vector, rtol=2e-4, atol=2e-5)
    assert actual.model_input is expected.model_input
    if expected.encodings is None:
        assert actual.encodings is None
        return
    assert actual.encodings is not None
    np.testing.assert_array_equal(actual.encodings.lengths, expected.encodings.lengths)
    assert list(actual.encodings.arrays) == list(expected.encodings.arrays)
    for name, array in expected.encodings.arrays.items():
        np.testing.assert_allclose(
            actual.encodings.arrays[name], array, rtol=2e-4, atol=2e-5, err_msg=name
        )


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Nothing that stands in a cycle is freed."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
@pytest.mark.parametrize("kind", ["hf_icma_bundle", "adamine_bundle"])
def test_queries_are_those_of_the_processors(
    kind: str, runtime: str, device: str, request: pytest.FixtureRequest
) -> None:
    """What a GPU scores would be another photo, or a recipe with another one's padding."""
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    path: Path = request.getfixturevalue(kind)
    host = Bundle.open(path, ExecutionOptions(threads=1))
    there = "auto" if device == "cuda" else runtime
    bundle = Bundle.open(path, ExecutionOptions(runtime=there, device=device, threads=1))
    pipeline = QueryPipeline(bundle, torch.device(device))
    for role, views in (("image", 1), ("image", 5), ("recipe", 1)):
        inputs = queries(host, role, views)
        expected = encode_queries(host, role, inputs)
        for count in (5, 1, 5, 5):  # on a GPU the second batch of a size is recorded
            batch = pipeline(role, inputs[:count])
            assert isinstance(batch, GpuQueries)
            assert len(batch) == count
            for actual, other in zip(batch, expected, strict=False):
                assert_same(actual, other)


def test_a_query_that_is_not_finite_is_refused(hf_icma_bundle: Path) -> None:
    """A NaN sorts anywhere, and nobody looks at what stays on a GPU."""
    bundle = Bundle.open(hf_icma_bundle, ExecutionOptions(runtime="torch"))
    pipeline = QueryPipeline(bundle, torch.device("cpu"))
    inputs = queries(bundle, "image")
    original = bundle.runtime("image").run_tensors
    for output in ("global", "tokens"):

        def damaged(tensors: object, output: str = output) -> object:
            results = original(tensors)
            results[output] = results[output].clone()
            results[output].view(len(results[output]), -1)[2, 3] = torch.nan
            return results

        bundle.runtime("image").run_tensors = damaged  # type: ignore[method-assign]
        with pytest.raises(ArtifactError, match="not finite"):
            pipeline("image", inputs)


def engine_of(path: Path, batches: int, *, scorer: str = "cpu") -> Engine:
    """An engine on the processors that works on so many batches at once, as on a GPU."""
    index = Index.open(path)
    bundle = Bundle.open(index.facts.find_bundle(path), ExecutionOptions(threads=1))
    pool = ThreadPoolExecutor(2)
    pipeline = QueryPipeline(bundle, torch.device("cpu"))
    if scorer == "gpu":
        gpu_index = GpuIndex(index, bundle.facts.heads, torch.device("cpu"), 1 << 40)
        chosen: Scorer = GpuScorer(gpu_index, bundle)
    else:
        chosen = CpuScorer(index, Bundle.open(bundle.path, ExecutionOptions(threads=1)), pool)
    searcher = Searcher(index, bundle, chosen, pool, pipeline)
    return Engine(index, bundle, searcher, pool, batches=batches)


@pytest.mark.parametrize("scorer", ["cpu", "gpu"])
@pytest.mark.parametrize("of", ["recipes", "images"])
def test_batches_side_by_side_answer_in_order(
    scorer: str, of: ItemKind, hf_icma_bundle: Path, tmp_path: Path
) -> None:
    """Answers would belong to other queries; and queries may be scored on processors too."""
    path = build_index(hf_icma_bundle, DATA, tmp_path / "i", of=of)
    asked = [DATA.photo(n) if of == "recipes" else DATA.recipe(n) for n in range(12)]
    asked[7] = b"no query"
    with Engine.open(path, threads=1) as host, engine_of(path, 3, scorer=scorer) as there:
        expected = list(host.search_many(asked, k=3, batch=2))
        answers = list(there.search_many(iter(asked), k=3, batch=2))
        query = {"image": asked[0]} if of == "recipes" else {"recipe": asked[0]}
        kept = there.search(**query, k=1, keep_query=True).query
    assert isinstance(answers[7], Failure)
    for answer, other in zip(answers, expected, strict=True):
        if isinstance(other, Answer):
            assert isinstance(answer, Answer)
            assert [hit.id for hit in answer.hits] == [hit.id for hit in other.hits]
            assert answer.certified == other.certified
    assert kept is not None
    assert kept.encodings is not None
    assert kept.encodings.arrays["table"].ndim == 4


def test_a_reader_that_fails_does_so_in_its_turn(hf_icma_bundle: Path, tmp_path: Path) -> None:
    """Batches that run ahead must not lose answers before the fault, nor queries after a stop."""
    path = build_index(hf_icma_bundle, DATA, tmp_path / "i")
    read: list[int] = []

    def photos(count: int) -> Iterator[object]:
        for number in range(count):
            read.append(number)
            yield DATA.photo(number % 12)
        raise OSError("the disk is gone")

    with engine_of(path, 3) as there:
        stream = there.search_many(photos(5), k=1, batch=2)
        assert all(isinstance(next(stream), Answer) for _ in range(4))
        with pytest.raises(OSError, match="disk is gone"):
            next(stream)
        read.clear()
        stream = there.search_many(photos(100), k=1, batch=2)
        next(stream)
        stream.close()
        assert len(read) <= 6, "as many batches as run at once are read, and no more"
    with pytest.raises(InputError, match="was closed"):
        next(there.search_many([DATA.photo(0)], k=1))
    assert not [thread for thread in threading.enumerate() if "hficma" in thread.name]


def test_a_closed_search_frees_what_encodes_its_queries(
    hf_icma_bundle: Path, tmp_path: Path
) -> None:
    """Recordings and weights would stay in a GPU's memory while the next index is opened there."""
    path = build_index(hf_icma_bundle, DATA, tmp_path / "i")
    with (
        Index.open(path) as index,
        Bundle.open(hf_icma_bundle, ExecutionOptions(runtime="torch")) as bundle,
        ThreadPoolExecutor(1) as pool,
    ):
        pipeline = QueryPipeline(bundle, torch.device("cpu"))
        searcher = Searcher(index, bundle, CpuScorer(index, bundle, pool), pool, pipeline)
        alive = weakref.ref(pipeline)
        del pipeline
        searcher.close()
        assert alive() is None


@pytest.mark.usefixtures("no_collection")
def test_queries_are_freed_with_their_batch(hf_icma_bundle: Path) -> None:
    """In a cycle the tables of many batches, 40 MB each, would wait for a collection."""
    with Bundle.open(hf_icma_bundle, ExecutionOptions(runtime="torch")) as bundle:
        pipeline = QueryPipeline(bundle, torch.device("cpu"))
        batch = pipeline("image", queries(bundle, "image"))
        one, last = batch[1], batch[-1]
        assert_same(one, next(query for query in batch if query.model_input is one.model_input))
        assert last.model_input is list(batch)[4].model_input
        assert [query.model_input for query in batch[3:]] == [
            batch[3].model_input,
            last.model_input,
        ]
        alive = weakref.ref(batch)
        del batch
        assert one.encodings is not None
        assert last.encodings is not None
        del one, last
        assert alive() is None


@pytest.mark.usefixtures("no_collection")
def test_a_closed_scorer_is_freed(hf_icma_bundle: Path, tmp_path: Path) -> None:
    """Half a gigabyte of recordings would stay while the next index is opened on the GPU."""
    path = build_index(hf_icma_bundle, DATA, tmp_path / "i")
    with engine_of(path, 1, scorer="gpu") as engine:
        engine.search(image=DATA.photo(0))
        alive = weakref.ref(engine._searcher._scorer._local)  # type: ignore[attr-defined]
        assert alive() is not None
    assert alive() is None
