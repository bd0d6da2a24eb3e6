"""Answers that bfloat16 screened are float32's, to the last bit."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from hficma.engine import Answer, Engine, build_index
from hficma.engine.native.library import SCREEN, kinds
from hficma.engine.native.pair_kernel import PairKernel
from hficma.engine.retrieval import kernel_reranking, screening
from hficma.engine.retrieval.certificate import MARGIN
from hficma.engine.retrieval.kernel_reranking import KernelReranker
from hficma.types import Floats64
from tests.engine.datasets import NoiseDataset
from tests.engine.screens import (
    LateScreen,
    Search,
    assert_identical,
    bound_of,
    searches,
    tied_index,
)

needs_bfloat16 = pytest.mark.skipif(SCREEN not in kinds(), reason="this processor has no bfloat16")

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


@needs_bfloat16
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


@needs_bfloat16
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


@needs_bfloat16
def test_a_screen_that_does_not_pay_is_left(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bfloat16 is as slow as float32, scoring the best twice would only cost."""
    monkeypatch.setattr(kernel_reranking, "PAYS", 0.0)
    with Engine.open(index, runtime="native", threads=1) as engine:
        for _ in range(5):
            engine.search(image=ITEMS.photo(0), candidates=100)
        assert reranker(engine).screen is None


@needs_bfloat16
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


def test_no_error_within_epsilon_shows(
    hf_icma_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A property: whatever a screen says within ε of the truth, answers are those of float32.

    Ties at the last rank, removed items and filters are where an item would be lost.
    """
    monkeypatch.setattr(screening, "MARGIN", 1.0)
    monkeypatch.setattr(kernel_reranking, "LEAST_ITEMS", 1)
    path = tied_index(hf_icma_bundle, tmp_path)
    with Engine.open(path, runtime="native", threads=1) as engine:
        engine.search(image=ITEMS.photo(0))
        kernels = reranker(engine)
        screen = copy(kernels._exact)  # another, so that it is told apart
        drawn: list[Search] = []
        refined: list[int] = []
        score = kernel_reranking.local_scores

        def wrong(kernel: PairKernel, *arguments: Any) -> Floats64:
            exact = score(kernel, *arguments)
            if kernel is screen:
                return drawn[-1].screened(exact)
            refined.append(len(exact))
            return exact

        monkeypatch.setattr(kernel_reranking, "local_scores", wrong)

        @settings(max_examples=60, deadline=None)
        @given(search=searches())
        def check(search: Search) -> None:
            drawn.append(search)
            kernels.screen = None
            expected = search.answer(engine)
            assert len(expected.error_bounds) == 1
            kernels.screen, kernels.bound = screen, bound_of("bf16", search.epsilon)
            refined.clear()
            answer = search.answer(engine)
            assert_identical(answer, expected)
            assert answer.error_bounds[-1].epsilon == kernels.bound.epsilon
            only_screened.append(answer.scored - sum(refined))

        only_screened: list[int] = []
        check()
        assert max(only_screened) > 0


@pytest.mark.parametrize("queries", [1, 2])
def test_what_shows_late_is_still_heeded(
    queries: int, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ε may grow in a later batch, or by another query: an item left behind before it must return.

    Of one query more candidates follow until all is proved; of two the second shows the error.
    """
    monkeypatch.setattr(screening, "MARGIN", 1.0)
    monkeypatch.setattr(kernel_reranking, "LEAST_ITEMS", 1)
    options: dict[str, Any] = {"k": 3, "candidates": 20, "exact": queries == 1}
    photos = [ITEMS.photo(number) for number in range(queries)]
    with Engine.open(index, runtime="native", threads=1) as engine:
        engine.search(image=photos[0])
        kernels = reranker(engine)
        kernels.screen = None
        [expected, *_] = engine.search_many(photos, **options)
        assert isinstance(expected, Answer)
        late = LateScreen(expected.hits[0].local_score)
        screen, score = copy(kernels._exact), kernel_reranking.local_scores

        def wrong(kernel: PairKernel, *arguments: Any) -> Floats64:
            exact = score(kernel, *arguments)
            return late.screened(exact) if kernel is screen else exact

        monkeypatch.setattr(kernel_reranking, "local_scores", wrong)
        kernels.screen, kernels.bound = screen, bound_of("bf16", 1e-5)
        [answer, *_] = engine.search_many(photos, **options)
        assert isinstance(answer, Answer)
        assert late.batches > 1
        assert_identical(answer, expected)
        assert answer.error_bounds[-1].epsilon == pytest.approx(late.error)
