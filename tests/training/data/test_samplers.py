"""Batches: everything once, class pairs side by side, the same order for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hficma.training.data.samplers import class_pair_batches, epoch_generator, shuffled_batches


@given(items=st.integers(2, 200), size=st.integers(2, 50))
@settings(max_examples=50, deadline=None)
def test_shuffled_batches_hold_every_item_once(items: int, size: int) -> None:
    """A dropped last batch loses items, a tiny one trains on hardly any negatives."""
    batches = shuffled_batches(items, size, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(items))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


@given(seed=st.integers(0, 1000), size=st.sampled_from([8, 20, 100]))
@settings(max_examples=30, deadline=None)
def test_class_pair_batches_put_two_of_a_class_side_by_side(seed: int, size: int) -> None:
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 8, size=300) * generator.integers(0, 2, size=300)
    batches = class_pair_batches(classes, size, 0.5, generator)
    half = 2 * round(size / 4)
    for batch in batches:
        labels = classes[batch[:half]]
        assert (labels[::2] == labels[1::2]).all()
        assert (labels > 0).all()
        assert (classes[batch[half:]] == 0).all()
    drawn = np.concatenate(batches)
    assert len(set(drawn.tolist())) == len(drawn), "an item came twice in an epoch"


def test_class_pair_batches_work_without_items_of_one_kind() -> None:
    """All labelled, or fewer labelled than a batch asks for: both crash or hang if forgotten."""
    generator = np.random.default_rng(0)
    everyone = class_pair_batches(np.repeat([1, 2, 3], 10), 8, 0.5, generator)
    assert all(len(batch) == 8 for batch in everyone)
    few = class_pair_batches(np.array([1, 1] + [0] * 50), 20, 0.5, generator)
    assert len(few) == 1
    assert len(few[0]) == 20
    with pytest.raises(ValueError, match="two items"):
        class_pair_batches(np.zeros(10, dtype=np.int64), 4, 0.5, generator)


def test_an_epoch_repeats_and_differs_from_the_next() -> None:
    first, again, other = (
        shuffled_batches(50, 8, epoch_generator(7, epoch, 0)) for epoch in (3, 3, 4)
    )
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
