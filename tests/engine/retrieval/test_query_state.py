"""What is known of a query's items goes with the query."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence

import numpy as np

from hficma.engine.retrieval.screening import Choice, QueryState, refine
from hficma.scores import ScoreWeights
from hficma.types import Floats64
from tests.engine.screens import bound_of


def test_scores_are_freed_with_their_query() -> None:
    """In a cycle 25 MB of each exact search of a million items would wait for a collection."""
    local = np.linspace(0.1, 0.9, 20)

    def exact(choices: Sequence[Choice]) -> list[Floats64]:
        return [local[batch.items[places]] for batch, places in choices]

    state = QueryState(ScoreWeights(0.2, 0.8), 3)
    bound = bound_of("bf16", 1e-3)
    batch = state.add_screened(np.arange(20), np.zeros(20), local.copy())
    refine([batch], bound, exact)
    bound.epsilon = 0.3
    assert state.rescored(bound, exact) is not None
    gc.disable()
    try:
        alive = [weakref.ref(state), weakref.ref(batch)]
        del state, batch
        assert [one() for one in alive] == [None, None]
    finally:
        gc.enable()
