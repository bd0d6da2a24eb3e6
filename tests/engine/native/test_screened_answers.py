"""Answers that bfloat16 screened are float32's, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hficma.engine import Answer, Engine, build_index
from hficma.engine.native.library import SCREEN, kinds
from hficma.engine.retrieval import kernel_reranking
from hficma.engine.retrieval.kernel_reranking import KernelReranker
from hficma.engine.retrieval.screening import MARGIN
from tests.engine.datasets import NoiseDataset

pytestmark = pytest.mark.skipif(SCREEN not in kinds(), reason="this processor has no bfloat16")

ITEMS = NoiseDataset(150)


@pytest.fixture(scope="module")
def index(hf_icma_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipes in several shards."""
    folder = tmp_path_factory.mktemp("screened") / "index"
    return build_index(hf_icma_bundle, ITEMS, folder, shard_items=60, keep="tables")


def reranker(engine: Engine) -> KernelReranker:
    """What scores the engine's items."""
    kernels = engine._searcher._scorer._kernels  # type: ignore[attr-defined]
    assert isinstance(kernels, KernelReranker)
    return kernels


def hits(answer: Answer) -> list[tuple[str, float]]:
    """Ids and scores of an answer."""
    return [(hit.id, hit.score) for hit in answer.hits]


@pytest.mark.parametrize("exact", [False, True])
def test_answers_are_those_of_float32(
    exact: bool, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A screen that lets a good item fall would change answers that are called proved."""
    monkeypatch.setattr(kernel_reranking, "PAYS", np.inf)
    with Engine.open(index, runtime="native", threads=2) as engine:
        photos = [ITEMS.photo(number) for number in range(8)]
        options = {"k": 5, "candidates": 70, "exact": exact}
        for _ in range(4):
            engine.search(image=photos[0], **options)  # type: ignore[arg-type]
        kernels = reranker(engine)
        assert kernels.bound is not None
        screen, kernels.screen = kernels.screen, None
        expected = [engine.search(image=photo, **options) for photo in photos]  # type: ignore[arg-type]
        kernels.screen = screen
        screened = [engine.search(image=photo, **options) for photo in photos]  # type: ignore[arg-type]
        together = list(engine.search_many(photos, **options))  # type: ignore[arg-type]
    for one, other, third in zip(expected, screened, together, strict=True):
        assert isinstance(third, Answer)
        assert hits(one) == hits(other)
        assert one.certified == other.certified
        assert [name for name, _ in hits(third)] == [name for name, _ in hits(one)]


def test_a_screen_worse_than_thought_is_found_out(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ε was measured on other pairs: whatever is scored twice must show where it is too small."""
    monkeypatch.setattr(kernel_reranking, "PAYS", np.inf)
    with Engine.open(index, runtime="native", threads=1) as engine:
        for _ in range(4):
            engine.search(image=ITEMS.photo(0), candidates=100)
        bound = reranker(engine).bound
        assert bound is not None
        bound.epsilon = 1e-9
        engine.search(image=ITEMS.photo(1), candidates=100)
        assert bound.largest > 0
        assert bound.epsilon >= MARGIN * bound.largest
        assert bound.epsilon > 1e-9


def test_a_screen_that_does_not_pay_is_left(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bfloat16 is as slow as float32, scoring the best twice would only cost."""
    monkeypatch.setattr(kernel_reranking, "PAYS", 0.0)
    with Engine.open(index, runtime="native", threads=1) as engine:
        for _ in range(5):
            engine.search(image=ITEMS.photo(0), candidates=100)
        assert reranker(engine).screen is None


def test_searches_side_by_side_may_give_the_screen_up(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread finds that bfloat16 does not pay while another is still measuring it."""
    monkeypatch.setattr(kernel_reranking, "PAYS", 0.0)
    with Engine.open(index, runtime="native", threads=4) as engine:
        photos = [ITEMS.photo(number) for number in range(12)]
        answers = list(engine.search_many(photos, candidates=100))
        assert reranker(engine).screen is None
    assert all(isinstance(answer, Answer) for answer in answers)
