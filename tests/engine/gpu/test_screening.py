"""A screen in 16 bits leaves the answers of float32: the same items, scores and certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hficma.engine import Answer, Bundle, Engine, Filter, IndexWriter, build_index
from hficma.engine.encoder import encode_queries
from hficma.engine.gpu.local_scores import LocalScorer
from hficma.engine.gpu.packed_index import PackedIndex
from hficma.engine.index.index import Index
from hficma.engine.index.item_encoding import EncodingPrecision, Level
from hficma.engine.query import photo_input
from hficma.engine.results import ErrorBound
from hficma.engine.retrieval.certificate import MARGIN
from hficma.engine.retrieval.screening import MEASUREMENTS, ScreenBound, to_refine
from tests.engine.datasets import NoiseDataset
from tests.engine.gpu.devices import DEVICES
from tests.engine.gpu.test_gpu_index import EVERYTHING, opened
from tests.engine.screens import (
    LateScreen,
    Search,
    assert_identical,
    bound_of,
    searches,
    tied_index,
)

DATA = NoiseDataset(150)
SOUP = Filter(categories=("soup",))


@given(
    scores=st.lists(st.integers(0, 60), min_size=1, max_size=40),
    before=st.lists(st.integers(0, 60), max_size=8),
    k=st.integers(1, 8),
    width=st.integers(0, 9),
    seed=st.integers(0, 1000),
)
def test_what_may_be_among_the_best_is_refined(
    scores: list[int], before: list[int], k: int, width: int, seed: int
) -> None:
    """The claim of the module: an item that is left out would be missing from an exact answer."""
    epsilon = width / 100
    rng = np.random.default_rng(seed)
    exact = np.array(scores) / 100
    screened = exact + rng.uniform(-epsilon, epsilon, len(exact))
    screened[rng.random(len(exact)) < 0.1] = np.nan
    proved = np.sort(np.array(before) / 100)[-k:]
    refined = to_refine(screened, proved, k, epsilon + 1e-12)
    assert refined[np.isnan(screened)].all()
    every = np.sort(np.concatenate([proved, exact]))[::-1]
    kth = every[k - 1] if len(every) >= k else -np.inf
    assert refined[exact > kth].all()
    # Of equal scores any may stand last by its position, so all of them must be known.
    assert refined[exact == kth].all()


def test_nothing_is_trusted_before_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine's kernels say nothing of this one's, and this one's pairs are few."""
    monkeypatch.setattr("hficma.engine.retrieval.screening.FIRST_PAIRS", 10)
    roundoff, largest, pairs = MEASUREMENTS["fp16"]
    bound = ScreenBound("fp16", 0.5)
    assert to_refine(np.linspace(0, 1, 9), np.empty(0), 1, bound.epsilon).all()
    bound.watch(np.zeros(6), np.full(6, 1e-6))
    assert bound.epsilon == np.inf
    assert bound.fact is None
    bound.watch(np.array([0.0, np.nan, 0.0, 0.0, 0.0]), np.full(5, 3e-6))
    # Of the million pairs, though the ten here say that less would do.
    assert bound.epsilon == pytest.approx(MARGIN * largest * roundoff * 0.5)
    assert bound.epsilon > MARGIN * bound.largest
    bound.watch(np.zeros(1), np.full(1, 1e-2))
    assert bound.epsilon == pytest.approx(MARGIN * 1e-2)
    bound.watch(np.zeros(5), np.zeros(5))
    assert bound.fact == ErrorBound(precision="fp16", epsilon=bound.epsilon, pairs=pairs + 16)


def assert_equal(answer: Answer, expected: Answer) -> None:
    """The same items in the same order, scores within float32's rounding, the same certificate."""
    assert [hit.id for hit in answer.hits] == [hit.id for hit in expected.hits]
    assert [h.score for h in answer.hits] == pytest.approx(
        [h.score for h in expected.hits], abs=3e-6
    )
    # It is summed in float64 from the same vectors.
    assert [h.global_score for h in answer.hits] == [h.global_score for h in expected.hits]
    assert answer.certified == expected.certified
    assert (answer.scored, answer.searched) == (expected.scored, expected.searched)


@pytest.fixture(scope="module")
def index_folder(hf_icma_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipes in several shards, of which some were removed."""
    folder = tmp_path_factory.mktemp("screened") / "index"
    path = build_index(
        hf_icma_bundle, DATA, folder, keep="projections", side_precision="fp16", shard_items=40
    )
    with IndexWriter(path) as writer:
        writer.remove(["r3", "r20", "r141"])
    return path


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("memory", [EVERYTHING, 60_000, 0])
def test_screened_answers_are_the_host_s(
    index_folder: Path, device: str, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is only screened must be behind the last rank, wherever it lies."""
    monkeypatch.setattr("hficma.engine.retrieval.screening.FIRST_PAIRS", 1)
    monkeypatch.setattr("hficma.engine.gpu.gpu_scorer.REFINED", 8)
    monkeypatch.setattr("hficma.engine.gpu.packed_index.LEAST_STAGED", 16)
    monkeypatch.setattr("hficma.engine.gpu.packed_index.STAGING_BYTES", 1)
    queries = [DATA.photo(number) for number in range(4)]
    with (
        Engine.open(index_folder, threads=1) as host,
        opened(index_folder, device, memory) as there,
    ):
        scored = 0
        for options in (
            {"k": 3, "candidates": 100},
            {"k": 5, "candidates": 40, "exact": True},
            {"k": 2, "candidates": 90, "filter": SOUP},
        ):
            answers = there.search_many(queries, **options)
            for answer, expected in zip(answers, host.search_many(queries, **options), strict=True):
                assert isinstance(answer, Answer)
                assert isinstance(expected, Answer)
                assert_equal(answer, expected)
                scored += answer.scored
        scorer = there._searcher._scorer  # type: ignore[attr-defined]
        assert 0 < MARGIN * scorer.bound.largest < 2 * scorer.bound.epsilon < 0.02
        assert scorer.bound.pairs < scored  # some were only screened


@pytest.mark.parametrize("device", DEVICES)
def test_a_bad_screen_costs_time_and_no_answer(
    index_folder: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model whose 16-bit scores are far off, or not finite, is noticed while it is used."""
    monkeypatch.setattr("hficma.engine.retrieval.screening.FIRST_PAIRS", 1)
    monkeypatch.setattr("hficma.engine.gpu.gpu_scorer.REFINED", 8)
    screen = LocalScorer.screen

    def bad(self: LocalScorer, *arguments: object) -> torch.Tensor:
        scores = screen(self, *arguments)  # type: ignore[arg-type]
        noise = torch.rand(scores.shape, generator=torch.Generator().manual_seed(0)) / 5
        scores = scores + noise.to(scores)
        scores[:, ::7] = torch.nan
        return scores

    monkeypatch.setattr(LocalScorer, "screen", bad)
    with Engine.open(index_folder, threads=1) as host, opened(index_folder, device) as there:
        for number in range(3):
            photo = DATA.photo(number)
            answer, expected = (
                one.search(image=photo, k=4, candidates=90) for one in (there, host)
            )
            assert_equal(answer, expected)


@pytest.mark.parametrize("device", DEVICES)
def test_no_error_within_epsilon_shows(
    hf_icma_bundle: Path, tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A property: whatever a screen says within ε of the truth, answers are those of float32.

    Ties at the last rank, removed items and filters are where an item would be lost.
    """
    monkeypatch.setattr("hficma.engine.retrieval.screening.MARGIN", 1.0)
    monkeypatch.setattr("hficma.engine.gpu.gpu_scorer.REFINED", 8)
    path = tied_index(hf_icma_bundle, tmp_path)
    with opened(path, device) as engine:
        scorer = engine._searcher._scorer  # type: ignore[attr-defined]
        drawn: list[Search] = []
        screened_pairs = 0

        def screen(self: LocalScorer, *arguments: Any) -> torch.Tensor:
            exact = self.refine(*arguments)
            return torch.from_numpy(drawn[-1].screened(exact))

        monkeypatch.setattr(LocalScorer, "screen", screen)

        @settings(max_examples=40, deadline=None)
        @given(search=searches())
        def check(search: Search) -> None:
            nonlocal screened_pairs
            drawn.append(search)
            scorer.bound = ScreenBound("fp16", np.inf, first_pairs=0)
            expected = search.answer(engine)
            scorer.bound = bound_of("fp16", search.epsilon)
            answer = search.answer(engine)
            assert_identical(answer, expected)
            screened_pairs += answer.scored - scorer.bound.pairs

        check()
        assert screened_pairs > 0


@pytest.mark.parametrize("device", DEVICES)
def test_what_shows_late_is_still_heeded(
    index_folder: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ε may grow in a later batch of a query: an item left behind before it must return."""
    monkeypatch.setattr("hficma.engine.retrieval.screening.MARGIN", 1.0)
    monkeypatch.setattr("hficma.engine.gpu.gpu_scorer.REFINED", 4)
    with opened(index_folder, device) as engine:
        scorer = engine._searcher._scorer  # type: ignore[attr-defined]
        options: dict[str, Any] = {
            "image": DATA.photo(0), "k": 3, "candidates": 20, "exact": True
        }  # fmt: skip
        scorer.bound = ScreenBound("fp16", np.inf, first_pairs=0)
        expected = engine.search(**options)
        late = LateScreen(expected.hits[0].local_score)

        def screen(self: LocalScorer, *arguments: Any) -> torch.Tensor:
            return torch.from_numpy(late.screened(self.refine(*arguments)))

        monkeypatch.setattr(LocalScorer, "screen", screen)
        scorer.bound = bound_of("fp16", 1e-5)
        assert_identical(engine.search(**options), expected)
        assert late.batches > 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("keep", "precision"), [("tokens", "fp16"), ("projections", "fp16"), ("tables", "int8")]
)
def test_scores_have_the_same_bits_wherever_items_lie(
    hf_icma_bundle: Path,
    tmp_path: Path,
    keep: Level,
    precision: EncodingPrecision,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Resident or staged, in one part or in several: no rank hangs on what memory is left."""
    monkeypatch.setattr("hficma.engine.gpu.packed_index.LEAST_STAGED", 8)
    monkeypatch.setattr("hficma.engine.gpu.packed_index.STAGING_BYTES", 1)
    path = build_index(
        hf_icma_bundle, NoiseDataset(30), tmp_path / "i", keep=keep, side_precision=precision,
        shard_items=11,
    )  # fmt: skip
    with Index.open(path) as index, Bundle.open(index.facts.find_bundle(path)) as bundle:
        inputs = [
            photo_input(DATA.photo(number), bundle.image_input, name="a photo")
            for number in range(3)
        ]
        queries = encode_queries(bundle, "image", inputs)
        items = np.random.default_rng(0).integers(0, 30, (3, 16))
        results = []
        for memory in (EVERYTHING, 3_000, 0):
            packed = PackedIndex(index, bundle.facts.heads, torch.device(device), memory)
            assert packed.resident <= memory
            scorer = LocalScorer(packed, bundle, "recipe")
            local = scorer.queries(queries)
            numbers = np.arange(3)
            results.append(
                (scorer.screen(local, numbers, items).cpu(), scorer.refine(local, numbers, items))
            )
        for screened, refined in results:
            assert screened.isfinite().all()
            # A library may order the sums of a larger product, which projects tokens, otherwise.
            same = device == "cpu" or keep != "tokens"
            np.testing.assert_allclose(screened, results[0][0], atol=0 if same else 1e-3, rtol=0)
            np.testing.assert_allclose(refined, results[0][1], atol=2e-6, rtol=0)
            assert np.abs(screened.numpy() - refined).max() < 0.02


def test_only_screens_of_little_work_are_recorded(
    index_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording keeps what it computes in between: of large batches a gigabyte or two."""
    with Index.open(index_folder) as index, Bundle.open(index.facts.find_bundle(index.path)) as b:
        packed = PackedIndex(index, b.facts.heads, torch.device("cpu"), EVERYTHING)
        scorer = LocalScorer(packed, b, "recipe")
        recorded: list[int] = []

        def record(*arguments: Any, numbers: tuple[int, ...]) -> list[torch.Tensor]:
            recorded.append(numbers[0])
            return scorer._screened(*arguments, *numbers)

        scorer._screen_part = record  # type: ignore[assignment]
        pixels = photo_input(DATA.photo(0), b.image_input, name="a photo")
        local = scorer.queries(encode_queries(b, "image", [pixels]))
        items = np.arange(100)[None]
        [rows] = [part.rows for part in packed.parts(items, torch.float16)]
        scorer.screen(local, np.zeros(1, np.int64), items[:, :32])
        assert recorded == []
        scores = scorer.screen(local, np.zeros(1, np.int64), items)
        assert recorded == [rows]
        monkeypatch.setattr("hficma.engine.gpu.local_scores.MOST_ROWS", rows - 1)
        assert torch.equal(scorer.screen(local, np.zeros(1, np.int64), items), scores)
        assert recorded == [rows]
