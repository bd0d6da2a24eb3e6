"""Padding adds zeros and nothing else, and sentences that are equal share a row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hficma.text.batching import BATCH_IDS, DistinctSentences, batches_by_length, pad_ids

SENTENCES = st.lists(st.lists(st.integers(2, 4), min_size=1, max_size=3), max_size=6)


def test_padding_is_zeros_behind_each_sequence() -> None:
    """Zeros in front, or a length of the padded row, and the model would read padding."""
    padded, lengths = pad_ids([np.array([5, 6]), np.array([], dtype=np.int64), np.array([7, 8, 9])])
    assert padded.tolist() == [[5, 6, 0], [0, 0, 0], [7, 8, 9]]
    assert lengths.tolist() == [2, 0, 3]
    assert padded.dtype == lengths.dtype == np.int64


@pytest.mark.parametrize("longest", [1, 4])
def test_a_batch_is_no_longer_than_its_longest_sequence(longest: int) -> None:
    """A fixed length would be computed in full for every batch."""
    assert pad_ids([np.arange(1), np.arange(longest)])[0].shape == (2, longest)


@given(recipes=st.lists(SENTENCES, max_size=5))
def test_rows_lead_back_to_the_sentences_and_none_stands_twice(
    recipes: list[list[list[int]]],
) -> None:
    """A wrong row gives a recipe another one's sentence; a double one is encoded twice."""
    distinct = DistinctSentences()
    for recipe in recipes:
        sentences = [np.array(words, dtype=np.int64) for words in recipe]
        rows = distinct.rows(sentences)
        assert (rows > 0).all()
        assert [distinct.word_ids[row - 1].tolist() for row in rows] == recipe
    assert len({tuple(ids.tolist()) for ids in distinct.word_ids}) == len(distinct.word_ids)


@given(st.lists(st.integers(0, 40_000), max_size=30), st.integers(1, 5))
@settings(deadline=None)
def test_batches_by_length_hold_each_once_within_their_bounds(
    lengths: list[int], most: int
) -> None:
    """One left out would leave its row empty; one batch too large takes gigabytes."""
    sequences = [np.zeros(length, dtype=np.int64) for length in lengths]
    batches = list(batches_by_length(sequences, most))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[place] for place in batch)
        assert 1 <= len(batch) <= most
        assert padded <= BATCH_IDS or len(batch) == 1
