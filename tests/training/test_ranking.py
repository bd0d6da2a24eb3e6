"""Ranks from blocks are those of whole tables, ties and prefilters included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hficma.metrics import DIRECTIONS, prefilter_recall, prefiltered_ranks, ranks
from hficma.model import ImageConfig, Model, ModelConfig, Tokens, build_model
from hficma.text.word_vectors import WordVectors
from hficma.training.data import ragged
from hficma.training.encoding import collected
from hficma.training.ranking import PREFILTER_DEPTHS, BagRanks, rank_bag
from hficma.training.scoring import ScoreTables, score_tables


def model(local_weight: float) -> Model:
    words = WordVectors.from_rows(("soup",), (3,), np.ones((1, 8)))
    config = ModelConfig(
        width=8, heads=2, image=ImageConfig(encoder="tiny"), word_dim=8, sentence="mean",
        global_dim=8, global_weight=1.0, local_weight=local_weight,
    )  # fmt: skip
    return build_model(config, words).eval()


def expected(table: ScoreTables, prefilter: int | None) -> BagRanks:
    """What `hficma.metrics` makes of whole tables."""
    both = {
        DIRECTIONS[0]: (table.total, table.global_),
        DIRECTIONS[1]: (table.total.T, table.global_.T),
    }
    parts = {
        "total": {name: ranks(total) for name, (total, _) in both.items()},
        "global_only": {name: ranks(global_) for name, (_, global_) in both.items()},
    }
    if prefilter is not None:
        parts["prefiltered"] = {
            name: prefiltered_ranks(total, global_, prefilter)
            for name, (total, global_) in both.items()
        }
    recall = {
        name: {depth: prefilter_recall(total, global_, depth) for depth in PREFILTER_DEPTHS}
        for name, (total, global_) in both.items()
    }
    return BagRanks(ranks=parts, prefilter_recall=recall)


def assert_same(one: BagRanks, other: BagRanks) -> None:
    assert one.ranks.keys() == other.ranks.keys()
    for part, by_direction in other.ranks.items():
        for name, values in by_direction.items():
            assert one.ranks[part][name].tolist() == values.tolist(), (part, name)
    assert one.prefilter_recall == other.prefilter_recall


@settings(deadline=None, max_examples=30)
@given(
    st.integers(2, 130),
    st.integers(1, 40),
    st.sampled_from([None, 1, 7, 200]),
    st.integers(0, 2**32 - 1),
)
def test_blocks_count_what_whole_tables_do(
    count: int, block: int, prefilter: int | None, seed: int
) -> None:
    """Few different scores, so that ties lie across blocks: there the first of equals counts."""
    draw = np.random.default_rng(seed)
    image, recipe = (
        Tokens(
            torch.from_numpy(draw.integers(-2, 3, (count, 3)).astype(np.float32)),
            None,
            torch.zeros(count, dtype=torch.int64),
        )
        for _ in range(2)
    )
    network = GLOBAL_ALONE
    table = score_tables(network, image, recipe)
    blocks = rank_bag(network, image, recipe, prefilter=prefilter, whole=1, block=block)
    assert_same(blocks, expected(table, prefilter))


GLOBAL_ALONE = model(0.0)


@pytest.mark.parametrize("whole", [1, 100])
def test_local_scores_count_too_and_progress_adds_up(whole: int) -> None:
    """A block of 51,000 pairs must rank as the 14 GB table would."""
    torch.manual_seed(0)
    network = model(1.0)
    image = Tokens(torch.randn(25, 8), torch.randn(25, 4, 8), torch.full((25,), 4))
    recipe = Tokens(torch.randn(25, 8), torch.randn(25, 3, 8), torch.full((25,), 3))
    done: list[int] = []
    blocks = rank_bag(
        network, image, recipe, prefilter=5, on_done=done.append, whole=whole, block=8
    )
    assert_same(blocks, expected(score_tables(network, image, recipe), 5))
    assert sum(done) == 25


def test_tokens_that_lie_in_a_file_are_those_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a whole test split are gigabytes, and must be no others than those of a bag."""
    batches = [
        Tokens(torch.randn(3, 2), torch.randn(3, length, 2), torch.tensor([1, length, 1]))
        for length in (2, 4)
    ]
    memory = collected(iter(batches), 6, 4)
    monkeypatch.setattr("hficma.training.encoding.MAPPED_FROM", 0)
    monkeypatch.setattr(ragged, "MAPPED_FROM", 0)
    file = collected(iter(batches), 7, 4)
    assert memory is not None
    assert file is not None
    for one, other in zip(memory, file, strict=True):
        assert torch.equal(one, other)
    assert collected([], 0, 1) is None
